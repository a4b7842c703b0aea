"""What a sharpness-aware optimizer refuses: settings that exclude each other, and groups that it cannot serve."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .ascent import Ascent
from .options import require_in_range
from .parameters import Group, describe
from .regime import Regime


def check_settings(
    ascent: Ascent, regime: Regime, *, clip_norm: float | None, l2: float, micro_batch: int | None, local: bool
) -> None:
    """Refuse numbers out of range, and options that exclude each other.

    Args:
        ascent: how eps is chosen.
        regime: how the ascent is put to use.
        clip_norm: the largest norm of the gradient to descend along, or None.
        l2: the factor of an L2 term in the loss.
        micro_batch: the images of one call of the network, or None.
        local: whether replicas perturb each on their own.

    Raises:
        ValueError: naming the option and what to do.
    """
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm = {clip_norm!r} is out of range: it must be above 0, or None")
    require_in_range("l2", l2, at_least=0.0)
    if micro_batch is not None and not (isinstance(micro_batch, int) and micro_batch >= 1):
        raise ValueError(f"micro_batch = {micro_batch!r} is out of range: it must be a whole number >= 1, or None")
    if ascent.period > 1 and regime.every > 1:
        raise ValueError(f"{ascent.name} ascends every {ascent.period} steps by itself: leave every = 1")
    if regime.statistics == "both" and (regime.m or micro_batch):
        raise ValueError("statistics = 'both' is for whole batches: leave out m and micro_batch")
    if (ascent.keeps_clean_gradient or ascent.needs_losses) and regime.fraction < 1:
        raise ValueError(f"{ascent.name} compares both passes on the same images: leave fraction = 1")
    if ascent.remembers and regime.m:
        raise ValueError(f"{ascent.name} keeps one gradient from step to step: leave m = 0")
    if ascent.keeps_clean_gradient and local:
        raise ValueError(f"{ascent.name} needs the clean gradient of all replicas: set perturbation='synced'")


def check_group(
    group: Group, ascent: Ascent, regime: Regime, *, defaults: Mapping[str, Any], names: Mapping[Tensor, str]
) -> None:
    """Refuse a parameter group that this ascent cannot serve.

    Args:
        group: the group, as the base optimizer gets it.
        ascent: how eps is chosen.
        regime: how the ascent is put to use.
        defaults: the base optimizer's settings where the group has none.
        names: those of the parameters that have one.

    Raises:
        ValueError: it maximizes, has a rho or an l2 out of range, or lacks names that the ascent or the regime goes by.
    """
    if group.get("maximize", defaults.get("maximize", False)):
        raise ValueError("maximize=True would turn the ascent round: minimise the negated loss instead")
    ascent.radius(group)
    require_in_range("l2 of a param group", group.get("l2", 0.0), at_least=0.0)
    by_name = f"{ascent.name} goes" if ascent.needs_names else ""
    by_name = by_name or ("a depth other than 1 goes" if regime.depth != 1 else "")
    unnamed = [p for p in group["params"] if isinstance(p, Tensor) and p not in names]
    if by_name and unnamed:
        raise ValueError(
            f"{by_name} by the names of parameters, and {describe(unnamed[0], names)} "
            "has none: give the module itself, or module.named_parameters()"
        )
