"""The sharpness-aware step: one for every method, around any torch optimizer."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer

from .ascent import Ascent, Memory, Point
from .gradient import Gradient, Norm, Scalar, measured_norm, promised_norm
from .norm_statistics import RunningStatistics, frozen_statistics
from .options import share_of
from .parameters import Group, check_module, check_parameters, groups_of, listed, names_of
from .passes import (
    CLOSURE,
    WHOLE,
    Closure,
    GradientSum,
    Part,
    Passes,
    missing_losses,
    missing_parts,
    part_length,
    sub_part,
)
from .reach import Reach
from .refusals import check_group, check_settings
from .regime import Regime
from .replicas import Perturbation, Replicas
from .snapshot import Snapshot
from .wrapping import Wrapped

SECTION = "sharpness_aware"
"""The key under which a method's memory stands in the state dict, beside the base optimizer's."""


class SharpnessAware(Wrapped):
    """A base optimizer that descends along the gradient at w + eps, where the ascent chooses eps.

    One step: the closure at w gives g (clean pass); the weights move to w + eps; the closure there gives the
    gradient to descend along (second pass), while norm layers' running statistics stand still and dropout draws the
    same masks; the weights go back to w, bit for bit and in their own storage; the base optimizer steps. Where the
    ascent goes nowhere (`none`, or rho = 0 in every group) the clean gradient is the one to descend along and there
    is no second pass. The `Regime` says how often, on which parameters and on which images the ascent is used.

    A step is all or nothing. A loss or gradient that is not finite, in either pass, skips it: weights, base state
    and running statistics are what they were before. So is whatever a closure raises, which then goes on to the
    caller. ``.grad`` holds what the last pass left, and random generators have moved on.

    ``param_groups``, ``state``, ``defaults`` and the state dict are the base optimizer's own: its checkpoints load
    here and these load there; a method with a memory (LookSAM, a step counter) adds a section of its own, which a
    plain optimizer ignores. A group may hold a ``rho`` of its own (norms stay global: eps_i = rho_i g_i / ||g||);
    it travels in the state dict with the group's other settings, a loaded one wins, and a checkpoint without one
    leaves it as it is. Hooks on steps are called with this optimizer, hooks on state dicts with the base.

    Weight decay is the base's, at w: it does not shape eps. ``l2`` (or a group's own) is the other kind: the factor of
    a term l2/2 ||w||^2 in the loss of every pass, as in SAM's official code, which counts biases and norm layers in.

    Loops that call ``backward`` themselves use `ascend` and `descend`.

    On CUDA with a ``fused`` base no step but the first waits for the device, for methods without a memory: whether it
    was skipped is then decided there, and the attributes below wait when they are read.

    Attributes:
        base: the base optimizer.
        ascent: how eps is chosen.
        regime: how the ascent is put to use.
        module: the module whose running statistics are looked after; None if only parameters were given.
        clip_norm: largest norm of the gradient that reaches the base optimizer, or None.
        perturbed: True while the weights are at w + eps. A closure that counts hits, or freezes the statistics of a
            module unknown to the optimizer, asks here.
    """

    def __init__(
        self,
        model_or_params: nn.Module | Iterable[Any],
        base: Callable[..., Optimizer],
        ascent: Ascent,
        *,
        regime: Regime | None = None,
        clip_norm: float | None = None,
        l2: float = 0.0,
        micro_batch: int | None = None,
        scaler: GradScaler | None = None,
        perturbation: Perturbation = "synced",
        module: nn.Module | None = None,
        seed: int = 0,
        **base_kwargs: Any,
    ) -> None:
        """Build the base optimizer and wrap it.

        Args:
            model_or_params: a module, or what any torch optimizer takes: parameters, named parameters, groups.
            base: class (or factory) of the base optimizer, called with groups and ``base_kwargs``.
            ascent: how eps is chosen.
            regime: how the ascent is put to use; in every step on everything where it is not given.
            clip_norm: clip the gradient to descend along (never the clean pass's before it) to this norm.
            l2: factor of an L2 term in the loss of every pass, beside the base's own ``weight_decay``.
            micro_batch: compute every pass in calls of so many images, to fit memory or to have batch norm normalise
                over as many; the gradient is that of the whole batch. Running statistics get one update, by the
                mean of the calls'.
            scaler: the `torch.amp.GradScaler` by which the closure scales its loss. It unscales every pass's
                gradient; call its ``update`` after the step (one that raised, too), and not its ``step``.
            perturbation: of replicas (`DistributedDataParallel`): ``synced``, or ``local`` to each.
            module: the module that the parameters belong to, where groups are given: its running statistics are
                looked after and its parameters' names known.
            seed: of the random numbers that an ascent draws.
            base_kwargs: settings of the base optimizer, such as ``lr``.

        Raises:
            TypeError: ``base`` is an optimizer already; ``ascent`` is not an `Ascent`; parameters are sharded.
            ValueError: parameters that cannot be trained so (`check_parameters`), parameters without names for an
                ascent that goes by them, a number or a group's rho out of range, options that exclude each other.
        """
        if isinstance(base, Optimizer):
            raise TypeError(f"give the class ({type(base).__name__}) and its settings, not an optimizer made of it")
        if not isinstance(ascent, Ascent):
            raise TypeError(f"ascent must be an Ascent, such as SamAscent(rho=0.05), not {ascent!r}")
        self.ascent, self.regime = ascent, regime or Regime()
        self.clip_norm = clip_norm
        self.module = model_or_params if isinstance(model_or_params, nn.Module) else module
        self.perturbed = False
        self._replicas = Replicas(self.module, perturbation)
        self._seed = seed
        check_settings(
            ascent, self.regime, clip_norm=clip_norm, l2=l2, micro_batch=micro_batch, local=self._replicas.local
        )
        groups = groups_of(model_or_params)
        check_module(self.module)
        self._names = names_of(self.module, groups)
        check_parameters(groups, self._names)
        for group in groups:
            check_group(group, ascent, self.regime, defaults=base_kwargs, names=self._names)
        self._reach = Reach(ascent, self.regime, self._names, self.module)
        self.base = base(groups, **base_kwargs)
        self._l2 = l2
        for group in self.base.param_groups:
            self._give_l2(group)
        self._passes = Passes(
            self.base,
            self._names,
            self.module,
            scaler=scaler,
            micro_batch=micro_batch,
            shared_masks=self.regime.masks == "shared",
            true_ascent=self.regime.true_gradient == "ascent",
            replicas=self._replicas,
        )
        self._weights = Snapshot()
        self._memory: Memory = {}
        self._taken = self._moves = 0
        self._finite: bool | Tensor = True
        self._ahead = False
        self._skipped: int | Tensor = 0
        self._last_norm = Norm(math.nan, True)
        self._clean_norm: Scalar = math.nan
        self._flight: _Flight | None = None
        self.__setstate__({})

    # what the latest steps were

    @property
    def skipped_steps(self) -> int:
        """The number of steps skipped so far. Not in the state dict: a checkpoint saves it and assigns it again."""
        return int(self._skipped)

    @skipped_steps.setter
    def skipped_steps(self, count: int) -> None:
        self._skipped = count

    @property
    def last_step_skipped(self) -> bool:
        """Whether the latest step was skipped."""
        return not self._last_norm.finite

    @property
    def last_gradient_norm(self) -> float:
        """||g|| at w in the latest step, before clipping (over parts of the batch, their mean); NaN if not finite."""
        return float(self._clean_norm)

    # the step

    def step(self, closure: Closure | None = None, *, size: int | None = None) -> Tensor:  # type: ignore[override]
        """Take one sharpness-aware step, or skip it (see the class).

        Args:
            closure: zeroes the gradients, computes the mean loss, calls ``backward`` and returns the loss. Runs once
                per gradient, with gradients enabled. With ``size`` it is called with a part of the batch, an index
                (`slice` or tensor), computes that part's mean loss, and may return the losses of the single samples
                instead of their mean; a method that compares samples also calls it with gradients disabled, and
                then it must not call ``backward``.
            size: the number of samples of the batch, for methods that look at parts of it.

        Returns:
            The loss at w (clean pass), detached.

        Raises:
            TypeError: there is no closure (and no `ascend` came before), or it returns no one-element tensor.
            ValueError: the method looks at parts of the batch, and no ``size`` is given.
            RuntimeError: the clean pass left no gradient at all, or a sparse one; `ascend` was called.
        """
        if closure is None:
            if self._flight is None:
                raise TypeError("step() needs a closure, for it computes the gradient more than once:" + CLOSURE)
            return self._end_of_flight(self._flight)
        if self._flight is not None:
            raise RuntimeError("ascend() was called: descend() ends that step, and retreat() calls it off")
        if size is None and self._parts_wanted_by:
            raise missing_parts(self._parts_wanted_by)
        self._begin()
        with self._passes.over(closure, size) as statistics:
            loss, gradient = self._descent_gradient(size)
            self._finish(gradient, statistics)
        return loss

    def _begin(self) -> None:
        self._finite, self._ahead, self._moves = True, self._runs_ahead(), 0

    def _descent_gradient(self, size: int | None) -> tuple[Tensor, Gradient]:
        """The clean loss, and the gradient to descend along, which is in ``.grad`` too."""
        if not self._ascends():
            gradient = self._passes.clean()
            self._measure_clean(gradient)
            self._without_ascent(gradient)
            return gradient.loss, gradient
        parts = list(self._parts(size))
        if len(parts) == 1:
            return self._sharp_gradient(parts[0][1], size)
        total, losses, norms = GradientSum(), [], []
        for share, part in parts:
            loss, gradient = self._sharp_gradient(part, size, share)
            losses.append(share * loss)
            norms.append(share * self._clean_norm)
            if gradient.known_bad:
                self._clean_norm = math.nan
                return loss, gradient
            total.add(gradient, share)
        self._clean_norm = sum(norms)
        return torch.stack(losses).sum(), total.result([p for group in self.param_groups for p in group["params"]])

    def _sharp_gradient(self, part: slice, size: int | None, share: float = 1.0) -> tuple[Tensor, Gradient]:
        """The clean loss on a part of the batch, and the gradient there at w + eps with an eps of its own."""
        driving, local = self._driving(part, size), self._replicas.local
        clean = self._passes.clean(driving, share, apart=local, climbing=True)
        loss = clean.loss
        self._measure_clean(clean)
        if clean.known_bad:
            return loss, clean
        with self._away(clean):
            at = clean
            for inner_step in range(self.regime.steps):
                if inner_step:
                    at = self._passes.again(driving, apart=local, climbing=True)
                    self._measure(at)
                    if at.known_bad:
                        return loss, at
                self._perturb(at, inner_step)
                if inner_step == 0:
                    self._let_go(clean)
            second = self._second_part(part, clean, size) if self.ascent.needs_losses else part
            sharp = self._passes.again(second, still=self.regime.statistics == "clean")
        return loss, self._descended(clean, sharp)

    def _descended(self, clean: Gradient, sharp: Gradient) -> Gradient:
        """The gradient at w + eps, and what the method makes of it."""
        if self.ascent.keeps_clean_gradient:
            self._measure(sharp)
            if not sharp.known_bad:
                with torch.no_grad():
                    self.ascent.descent(clean, sharp, self._memory)
                sharp.norm = None
        return sharp

    def _without_ascent(self, clean: Gradient) -> None:
        """What the method makes of the gradient at w, in a step between two ascents."""
        if self._memory and any(self._reach.of_groups(self.param_groups)) and not clean.known_bad:
            with torch.no_grad():
                self.ascent.without_ascent(clean, self._memory)
            clean.norm = None

    def _second_part(self, part: slice, clean: Gradient, size: int | None) -> Part:
        """The samples of a part that the second pass is on."""
        if clean.losses is None or size is None:
            raise missing_losses(self.ascent.name)
        chosen = self.ascent.second_part(clean.losses, self._passes.losses(part))
        return part if chosen is None else chosen + part.indices(size)[0]

    def _finish(self, gradient: Gradient, statistics: RunningStatistics | None) -> None:
        """Step with the base optimizer, or skip the step: now, or as the device will decide."""
        norm = gradient.norm or self._measure(gradient)
        self._last_norm = norm
        self._taken += 1
        if self.clip_norm is not None and gradient.parameters and not gradient.known_bad:
            dtype = torch.promote_types(gradient.parameters[0].dtype, torch.float32)
            total = torch.as_tensor(norm.total, dtype=dtype)
            clip_grads_with_norm_(gradient.parameters, self.clip_norm, total)
        if isinstance(norm.finite, Tensor):
            self._step_if(norm.finite)
            if statistics is not None:
                statistics.restore_unless(norm.finite)
            self._skipped = self._skipped + (~norm.finite).int()
        elif norm.finite:
            self.base.step()
        else:
            self._skipped = self._skipped + 1
            if statistics is not None:
                statistics.restore()

    def _step_if(self, finite: Tensor) -> None:
        """The base's step, which its fused kernels leave out where a scaler would have found an overflow."""
        self.base.found_inf = (~finite).to(torch.float32)  # type: ignore[attr-defined]
        try:
            self.base.step()
        finally:
            del self.base.found_inf  # type: ignore[attr-defined]

    # whether, where and how far

    @property
    def _period(self) -> int:
        return self.regime.every * self.ascent.period

    def _ascends(self) -> bool:
        due = self._taken % self._period == 0 or (self.ascent.remembers and not self._memory)
        return due and any(self._reach.of_groups(self.param_groups))

    def _parts(self, size: int | None) -> Iterator[tuple[float, slice]]:
        """The parts of the batch that get an ascent each, and their shares of it."""
        m = self.regime.m
        if size is None or not 0 < m < size:
            yield 1.0, WHOLE
            return
        used = size - size % m if self.regime.ragged == "dropped" else size
        for start in range(0, used, m):
            stop = min(start + m, used)
            yield (stop - start) / used, slice(start, stop)

    def _driving(self, part: Part, size: int | None) -> Part:
        """The samples of a part whose gradient drives the ascent."""
        if self.regime.fraction == 1 or size is None:
            return part
        length = part_length(part, size)
        return sub_part(part, 0, share_of(length, self.regime.fraction), size)

    @contextmanager
    def _away(self, clean: Gradient) -> Iterator[None]:
        """Inside, the weights may move. Whatever happens there, w comes back."""
        # later gradients of an ascent of several may reach parameters that the first did not
        movable = clean.parameters if self.regime.steps == 1 else self._trained()
        self._weights.take(movable)
        self.perturbed = True
        try:
            yield
        finally:
            self.perturbed = False
            self._weights.restore()
            torch.clear_autocast_cache()

    @torch.no_grad()
    def _perturb(self, at: Gradient, inner_step: int) -> None:
        """W <- w + eps, or one of several moves towards it. Where g = 0 there is no way up, and eps = 0.

        The gradient and eps live no longer than this call and the closure's ``zero_grad``.
        """
        parameters, gradients, norm = at.parameters, at.values, at.total
        if (movable := self._reach.movable(parameters)) is not None:
            parameters, gradients = [parameters[i] for i in movable], [gradients[i] for i in movable]
            norm = self._norm_of(at.loss, gradients).total
        if not parameters or (isinstance(norm, float) and norm == 0):
            return
        weights = parameters
        if inner_step:
            kept = dict(zip(self._weights.tensors, self._weights.values, strict=True))
            weights = [kept[parameter] for parameter in parameters]
        names = [self._names[parameter] for parameter in parameters] if self.ascent.needs_names else ()
        radii = self._reach.of(parameters, self.param_groups)
        point = Point(weights, gradients, radii, norm, names, seed=self._next_seed())
        self.ascent.perturbation(point).add_to(parameters, share=1 / self.regime.steps)
        # autocast around the whole step would go on with its casts of the weights before the move
        torch.clear_autocast_cache()

    def _next_seed(self) -> int:
        """Another one in every move of every step: numbers that count them, spread over the range of seeds."""
        self._moves += 1
        counted = self._seed * 0x9E3779B97F4A7C15 + self._taken * 0xBF58476D1CE4E5B9 + self._moves * 0x94D049BB133111EB
        return counted % 2**63

    def _let_go(self, clean: Gradient) -> None:
        """Free the clean gradient before the second pass, or keep it from the closure's ``zero_grad``."""
        if not self.ascent.keeps_clean_gradient:
            clean.values = []
            return
        if self._replicas.reuses_gradients:
            clean.values = [value.clone() for value in clean.values]
        for parameter in clean.parameters:
            parameter.grad = None

    # norms

    def _measure(self, gradient: Gradient) -> Norm:
        """The norm of a gradient, and whether this and all before it in the step were finite, in every replica."""
        norm = self._norm_of(gradient.loss, gradient.values)
        self._finite = self._finite & self._replicas.agree(norm.finite, gradient.loss.device)
        gradient.norm = Norm(norm.total, self._finite)
        return gradient.norm

    def _norm_of(self, loss: Tensor, values: list[Tensor]) -> Norm:
        return promised_norm(loss, values) if self._ahead else measured_norm(loss, values)

    def _measure_clean(self, clean: Gradient) -> None:
        if not clean.parameters:
            raise RuntimeError("the closure left no gradient: it must call loss.backward() on its way:" + CLOSURE)
        self._clean_norm = self._measure(clean).total

    def _runs_ahead(self) -> bool:
        """Whether the host need not know if the step is skipped.

        In the first step it must: fused kernels that skip it leave momentum buffers without values.
        """
        return (
            device_runs_ahead(self.param_groups)
            and not self.ascent.remembers
            and getattr(self.base, "_step_supports_amp_scaling", False)
            and all(
                self.state.get(parameter, {}).get("momentum_buffer") is not None
                for group in self.param_groups
                if group.get("momentum")
                for parameter in group["params"]
                if parameter.requires_grad
            )
        )

    def _trained(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    # two calls, for loops that call backward themselves

    def ascend(self) -> bool:
        """Move the weights to w + eps, along the gradient that ``backward`` has just left at w.

            optimizer.zero_grad()
            loss = loss_function(model(inputs), targets)
            loss.backward()
            if optimizer.ascend():
                optimizer.zero_grad()
                loss_function(model(inputs), targets).backward()
            optimizer.descend()

        Until `descend` or `retreat`, running statistics stand still. Dropout draws other masks in the second pass,
        networks that shake their gradients (`flatmin.optim.shaken`) do so in the first, unless that is computed in
        `true_gradient`, and a step that is skipped keeps what the first pass did to running statistics: `step` does
        more. With
        several `Regime.steps` call it as often, with a ``backward`` before each. With a scaler, call its ``update``
        after `descend`, and after `retreat` too.

        Returns:
            Whether a second ``backward`` is wanted, at the weights of now, with fresh gradients. If not, the weights
            have not moved.

        Raises:
            RuntimeError: `descend` is due; no gradient is there; the method looks at parts of the batch.
        """
        if self._parts_wanted_by:
            raise RuntimeError(f"{self._parts_wanted_by} looks at parts of the batch: use step(closure, size=...)")
        if self._flight is None:
            self._flight = self._begun_flight()
        elif not 0 < self._flight.moves < self.regime.steps:
            raise RuntimeError("ascend() was called already in this step: descend() ends it, retreat() calls it off")
        flight = self._flight
        if not flight.open:
            return False
        if flight.moves:
            at = self._passes.left()
            self._measure(at)
            if at.known_bad:
                flight.gradient = at
                flight.close()
                return False
        else:
            at = flight.gradient
        self._perturb(at, flight.moves)
        flight.moves += 1
        if flight.moves == 1:
            self._let_go(flight.gradient)
        return True

    def _begun_flight(self) -> "_Flight":
        self._begin()
        clean = self._passes.left(first=True)
        self._measure_clean(clean)
        flight = _Flight(clean)
        if clean.known_bad:
            return flight
        if not self._ascends():
            self._without_ascent(clean)
            return flight
        flight.open = True
        if self.module is not None and self.regime.statistics == "clean":
            flight.stack.enter_context(frozen_statistics(self.module))
        flight.stack.enter_context(self._away(clean))
        return flight

    def descend(self) -> Tensor:
        """Put the weights back to w, and step along the gradient that ``backward`` has left at w + eps.

        Returns:
            A zero in the place of the loss, which this form does not know.

        Raises:
            RuntimeError: there was no `ascend` before, or too few of them.
        """
        if self._flight is None:
            raise RuntimeError("descend() ends what ascend() began: call ascend() after the first backward()")
        return self.step()  # whose hooks are called, and which schedulers count

    def _end_of_flight(self, flight: "_Flight") -> Tensor:
        if flight.open and flight.moves < self.regime.steps:
            raise RuntimeError(f"ascend() was called {flight.moves} of {self.regime.steps} times: go on with it")
        self._flight = None
        gradient = flight.gradient
        if flight.open:
            try:
                sharp = self._passes.left()
            finally:
                flight.close()
            gradient = self._descended(flight.gradient, sharp)
        self._finish(gradient, None)
        return gradient.loss

    def retreat(self) -> None:
        """Put the weights back to w and take no step; does nothing where there was no `ascend`."""
        if self._flight is not None:
            self._flight.close()
            self._flight = None

    @property
    def _parts_wanted_by(self) -> str:
        """What in this optimizer looks at parts of the batch; empty where nothing does."""
        if self.regime.looks_at_parts:
            return f"{self.ascent.name} with {'m' if self.regime.m else 'fraction'}"
        if self.ascent.needs_losses:
            return self.ascent.name
        return "micro_batch" if self._passes.micro_batch is not None else ""

    # what is the base optimizer's own

    def add_param_group(self, param_group: Group) -> None:
        """Train more parameters; the group may carry a ``rho`` of its own.

        Raises:
            ValueError: as the constructor does; the optimizer is then as before.
        """
        group = listed(param_group)
        known = self._names, self._reach
        self._names = {**self._names, **names_of(self.module, [group])}
        try:
            check_parameters([*self.param_groups, group], self._names)
            check_group(group, self.ascent, self.regime, defaults=self.defaults, names=self._names)
            self._reach = Reach(self.ascent, self.regime, self._names, self.module)
            self.base.add_param_group(group)
        except BaseException:
            self._names, self._reach = known
            raise
        self._passes.names = self._names
        self._give_l2(self.base.param_groups[-1])

    def _give_l2(self, group: Group) -> None:
        if self._l2:
            group.setdefault("l2", self._l2)

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state dict, which a plain base optimizer loads as well.

        A method with a memory adds the section ``sharpness_aware``: the number of steps taken, and what it keeps of
        each parameter, by the parameter's number as in the base's ``state``.
        """
        state = self.base.state_dict()
        if self._period > 1 or self.ascent.draws or self.ascent.remembers:
            numbers = {p: i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
            state[SECTION] = {
                "steps": self._taken,
                "memory": {numbers[parameter]: kept for parameter, kept in self._memory.items()},
            }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of this optimizer or of a plain base optimizer (see the class for ``rho`` in groups)."""
        own = [
            {name: group[name] for name in ("rho", "initial_rho", "l2") if name in group} for group in self.param_groups
        ]
        self.base.load_state_dict({name: value for name, value in state_dict.items() if name != SECTION})
        for group, settings in zip(self.param_groups, own, strict=True):
            for name, value in settings.items():
                group.setdefault(name, value)
        section = state_dict.get(SECTION, {"steps": 0, "memory": {}})
        parameters = [p for group in self.param_groups for p in group["params"]]
        self._taken = section["steps"]
        self._memory = {parameters[i]: kept.to(parameters[i], copy=True) for i, kept in section["memory"].items()}

    def __repr__(self) -> str:
        """The ascent, the regime and the base's settings."""
        return f"{type(self).__name__}({self.ascent}, {self.regime}, {self.base!r})"


class _Flight:
    """A step in two calls that has begun: the clean gradient, and how to get back to w."""

    def __init__(self, gradient: Gradient) -> None:
        self.gradient = gradient
        self.open = False
        self.moves = 0
        self.stack = ExitStack()

    def close(self) -> None:
        """Back to w."""
        self.open = False
        self.stack.close()


def device_runs_ahead(groups: Iterable[Group]) -> bool:
    """Whether all parameters are on one CUDA device, whose work the host queues without waiting for it."""
    parameters = (parameter for group in groups for parameter in group["params"])
    first = next(parameters, None)
    return first is not None and first.is_cuda and all(other.device == first.device for other in parameters)
