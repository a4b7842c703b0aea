"""An optimizer around another one: groups, state and state dict are the base's, the very same objects."""

from collections import defaultdict
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from .parameters import Group

_STATE_DICT_HOOKS = (
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


class Wrapped(Optimizer):
    """What schedulers, scalers, copies and pickles ask of an optimizer, answered by its ``base``.

    A subclass assigns ``base`` and then calls ``__setstate__({})``, in the place of `Optimizer.__init__`: groups, state
    and defaults are the base's, and the rest of an `Optimizer` is what unpickling adds to those three. Hooks on steps
    are called with the outer optimizer, hooks on state dicts with the base.

    Attributes:
        base: the optimizer inside.
    """

    base: Optimizer

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

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: all but hooks and a scheduler's patch of `step`, as for every optimizer."""
        left_out = {"step", *(name for name in self.__dict__ if name.startswith("_optimizer_"))}
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over copied or pickled parts; state dicts are the base's, and so are the hooks on them."""
        super().__setstate__(state)
        for hooks in _STATE_DICT_HOOKS:
            setattr(self, hooks, getattr(self.base, hooks))
