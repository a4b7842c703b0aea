"""The sharpness-aware step: one for every method, around any torch optimizer."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer

from .ascent import Ascent, Point
from .norm_statistics import frozen_statistics, running_statistics
from .norms import finite_norm
from .parameters import Group, check_dense, check_parameters, describe, groups_of, listed, names_of
from .snapshot import Snapshot

Closure = Callable[[], Tensor]

_CLOSURE = """

    def closure():
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
"""


class SharpnessAware(Optimizer):
    """A base optimizer that descends along the gradient at w + eps, where the ascent chooses eps.

    One step: the closure at w gives g (clean pass); the weights move to w + eps; the closure there gives the
    gradient to descend along (second pass), while norm layers' running statistics stand still; the weights go back
    to w, bit for bit and in their own storage; the base optimizer steps. Where the ascent goes nowhere (`none`, or
    rho = 0 in every group) the clean gradient is the one to descend along and there is no second pass.

    A step is all or nothing. A loss or gradient that is not finite, in either pass, skips it: weights, base state
    and running statistics are what they were before. So is whatever a closure raises, which then goes on to the
    caller. ``.grad`` holds what the last pass left, and random generators have moved on.

    ``param_groups``, ``state``, ``defaults`` and the state dict are the base optimizer's own: its checkpoints load
    here and these load there. A group may hold a ``rho`` of its own (norms stay global: eps_i = rho_i g_i / ||g||);
    it travels in the state dict with the group's other settings, a loaded one wins, and a checkpoint without one
    leaves it as it is. Weight decay is the base's, at w: it does not shape eps. Hooks on steps are called with this
    optimizer, hooks on state dicts with the base.

    Attributes:
        base: the base optimizer.
        ascent: how eps is chosen.
        module: the module whose running statistics are looked after; None if only parameters were given.
        clip_norm: largest norm of the gradient that reaches the base optimizer, or None.
        skipped_steps: number of steps skipped so far. Not in the state dict, which is the base's: a checkpoint that
            wants it saves it and assigns it again.
        last_step_skipped: whether the latest step was skipped.
        last_gradient_norm: ||g|| at w in the latest step, before clipping; NaN where it was not finite.
        perturbed: True while the closure runs at w + eps. A closure that counts hits, or freezes the statistics of
            a module unknown to the optimizer, asks here.
    """

    def __init__(
        self,
        model_or_params: nn.Module | Iterable[Any],
        base: Callable[..., Optimizer],
        ascent: Ascent,
        *,
        clip_norm: float | None = None,
        module: nn.Module | None = None,
        **base_kwargs: Any,
    ) -> None:
        """Build the base optimizer and wrap it.

        Args:
            model_or_params: a module, or what any torch optimizer takes: parameters, named parameters, groups.
            base: class (or factory) of the base optimizer, called with groups and ``base_kwargs``.
            ascent: how eps is chosen.
            clip_norm: clip the gradient to descend along (never the clean pass's before it) to this norm.
            module: the module that the parameters belong to, where groups are given: its running statistics are
                looked after and its parameters' names known.
            base_kwargs: settings of the base optimizer, such as ``lr``.

        Raises:
            TypeError: ``base`` is an optimizer already; ``ascent`` is not an `Ascent`.
            ValueError: parameters that cannot be trained so (`check_parameters`), parameters without names for an
                ascent that goes by them, a ``clip_norm`` or a group's rho out of range.
        """
        if isinstance(base, Optimizer):
            raise TypeError(f"give the class ({type(base).__name__}) and its settings, not an optimizer made of it")
        if not isinstance(ascent, Ascent):
            raise TypeError(f"ascent must be an Ascent, such as SamAscent(rho=0.05), not {ascent!r}")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm = {clip_norm!r} is out of range: it must be above 0, or None")
        groups = groups_of(model_or_params)
        self.ascent = ascent
        self.clip_norm = clip_norm
        self.module = model_or_params if isinstance(model_or_params, nn.Module) else module
        self.skipped_steps = 0
        self.last_step_skipped = False
        self.last_gradient_norm = math.nan
        self.perturbed = False
        self._names = names_of(self.module, groups)
        check_parameters(groups, self._names)
        self._check_groups(groups, base_kwargs)
        self.base = base(groups, **base_kwargs)
        # groups, state and defaults are the base's; the rest of an Optimizer is what unpickling adds to those three
        self.__setstate__({})

    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """Take one sharpness-aware step, or skip it (see the class).

        Args:
            closure: zeroes the gradients, computes the loss, calls ``backward`` and returns the loss. Runs once per
                gradient, with gradients enabled.

        Returns:
            The loss at w (clean pass), detached.

        Raises:
            TypeError: there is no closure, or it returns no one-element tensor.
            RuntimeError: the clean pass left no gradient at all, or a sparse one.
        """
        if closure is None:
            raise TypeError("step() needs a closure, for it computes the gradient more than once:" + _CLOSURE)
        statistics = Snapshot([] if self.module is None else running_statistics(self.module))
        try:
            loss, finite = self._descent_gradient(closure)
        except BaseException:
            statistics.restore()
            raise
        self.last_step_skipped = not finite
        if finite:
            self.base.step()
        else:
            statistics.restore()
            self.skipped_steps += 1
        return loss

    def _descent_gradient(self, closure: Closure) -> tuple[Tensor, bool]:
        """Leave the gradient to descend along in ``.grad``. The clean loss, and whether all was finite."""
        radii = [self.ascent.radius(group) for group in self.param_groups]
        loss = self._pass(closure)
        parameters = self._with_gradient()
        if not parameters:
            raise RuntimeError("the closure left no gradient: it must call loss.backward() on its way:" + _CLOSURE)
        norm = finite_norm(loss, _gradients(parameters))
        self.last_gradient_norm = math.nan if norm is None else norm
        if norm is not None and any(radii):
            descent_loss = self._perturbed_pass(closure, parameters, norm, radii)
            parameters = self._with_gradient()
            norm = finite_norm(descent_loss, _gradients(parameters))
        if norm is not None and self.clip_norm is not None:
            self._clip(parameters, norm, self.clip_norm)
        return loss, norm is not None

    def _perturbed_pass(self, closure: Closure, parameters: list[Tensor], norm: float, radii: list[float]) -> Tensor:
        """The pass at w + eps, while running statistics stand still. Whatever happens in it, w comes back."""
        weights = Snapshot(parameters)
        self.perturbed = True
        try:
            self._perturb(parameters, norm, radii)
            with nullcontext() if self.module is None else frozen_statistics(self.module):
                return self._pass(closure)
        finally:
            self.perturbed = False
            weights.restore()

    def _pass(self, closure: Closure) -> Tensor:
        """One call of the closure; its loss, detached."""
        with torch.enable_grad():
            loss = closure()
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise TypeError(f"the closure must return its loss, a tensor with one element, not {loss!r}:" + _CLOSURE)
        return loss.detach()

    @torch.no_grad()
    def _perturb(self, parameters: list[Tensor], norm: float, radii: list[float]) -> None:
        """W <- w + eps. Where g = 0 there is no way up, and eps = 0.

        The clean gradient and eps live no longer than this call and the closure's ``zero_grad``.
        """
        if norm == 0:
            return
        radius_of_each = [
            radius
            for group, radius in zip(self.param_groups, radii, strict=True)
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        names = [self._names[parameter] for parameter in parameters] if self.ascent.needs_names else []
        point = Point(parameters, _gradients(parameters), radius_of_each, norm, names)
        torch._foreach_add_(parameters, self.ascent.perturbation(point))

    @staticmethod
    def _clip(parameters: list[Tensor], norm: float, largest: float) -> None:
        """Scale the gradients down to the norm ``largest`` if theirs is above."""
        if parameters:
            dtype = torch.promote_types(parameters[0].dtype, torch.float32)
            clip_grads_with_norm_(parameters, largest, torch.tensor(norm, dtype=dtype))

    def _with_gradient(self) -> list[Tensor]:
        """Parameters that the last pass reached, in the order of the groups."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        check_dense(parameters, self._names)
        return parameters

    def _check_groups(self, groups: list[Group], defaults: Mapping[str, Any]) -> None:
        """Refuse groups that this ascent cannot serve (see the constructor)."""
        for group in groups:
            if group.get("maximize", defaults.get("maximize", False)):
                raise ValueError("maximize=True would turn the ascent round: minimise the negated loss instead")
            self.ascent.radius(group)
            unnamed = [p for p in group["params"] if isinstance(p, Tensor) and p not in self._names]
            if self.ascent.needs_names and unnamed:
                raise ValueError(
                    f"{self.ascent.name} goes by the names of parameters, and {describe(unnamed[0], self._names)} "
                    "has none: give the module itself, or module.named_parameters()"
                )

    # what is the base optimizer's own

    @property
    def param_groups(self) -> list[Group]:  # type: ignore[override]
        """The base optimizer's groups, the very same objects."""
        return self.base.param_groups

    @property
    def state(self) -> defaultdict[Tensor, Any]:  # type: ignore[override]
        """The base optimizer's state, the very same object."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The base optimizer's defaults, the very same object."""
        return self.base.defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, as the base optimizer does."""
        self.base.zero_grad(set_to_none)

    def add_param_group(self, param_group: Group) -> None:
        """Train more parameters; the group may carry a ``rho`` of its own.

        Raises:
            ValueError: as the constructor does; the optimizer is then as before.
        """
        group = listed(param_group)
        self._names |= names_of(self.module, [group])
        check_parameters([*self.param_groups, group], self._names)
        self._check_groups([group], self.defaults)
        self.base.add_param_group(group)

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state dict, which a plain base optimizer loads as well."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of this optimizer or of a plain base optimizer (see the class for ``rho`` in groups)."""
        own = [group.get("rho") for group in self.param_groups]
        self.base.load_state_dict(state_dict)
        for group, rho in zip(self.param_groups, own, strict=True):
            if rho is not None:
                group.setdefault("rho", rho)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: all but hooks and a scheduler's patch of `step`, as for every optimizer."""
        left_out = {"step", *(name for name in self.__dict__ if name.startswith("_optimizer_"))}
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over copied or pickled parts; state dicts are the base's, and so are the hooks on them."""
        super().__setstate__(state)
        for hooks in (
            "_optimizer_state_dict_pre_hooks",
            "_optimizer_state_dict_post_hooks",
            "_optimizer_load_state_dict_pre_hooks",
            "_optimizer_load_state_dict_post_hooks",
        ):
            setattr(self, hooks, getattr(self.base, hooks))

    def __repr__(self) -> str:
        """The ascent and the base's settings."""
        return f"{type(self).__name__}({self.ascent}, {self.base!r})"


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
