"""What an optimizer is given to train: groups of parameters, their names, and what is wrong with them."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

Group = dict[str, Any]


def groups_of(model_or_params: nn.Module | Iterable[Any]) -> list[Group]:
    """Param groups, as copies that hold a list each, from all that a torch optimizer takes, or a module.

    Raises:
        TypeError: a lone tensor.
        ValueError: there is nothing in it.
    """
    if isinstance(model_or_params, Tensor):
        raise TypeError("a single tensor was given as parameters: put it in a list, or give the module")
    if isinstance(model_or_params, nn.Module):
        model_or_params = model_or_params.parameters()
    entries = list(model_or_params)
    if not entries:
        raise ValueError("there is no parameter to train: give the module, or a list of parameters that is not empty")
    return [listed(group) for group in entries] if isinstance(entries[0], dict) else [{"params": entries}]


def listed(group: Mapping[str, Any]) -> Group:
    """A copy of a param group with its parameters in a list (they may come as one tensor or an iterator)."""
    params = group["params"]
    return {**group, "params": [params] if isinstance(params, Tensor) else list(params)}


def names_of(module: nn.Module | None, groups: Iterable[Group]) -> dict[Tensor, str]:
    """Names of parameters, as far as the module or named groups tell; the first name of a tied one."""
    names: dict[Tensor, str] = {}
    if module is not None:
        names.update((parameter, name) for name, parameter in module.named_parameters())
    for group in groups:
        named = [entry for entry in group["params"] if isinstance(entry, tuple)]
        named += zip(group.get("param_names", ()), group["params"], strict=False)
        for name, parameter in named:
            names.setdefault(parameter, name)
    return names


def check_parameters(groups: list[Group], names: Mapping[Tensor, str]) -> None:
    """Refuse parameters that cannot be perturbed and restored.

    Raises:
        TypeError: one is sharded (FSDP2, tensor parallelism).
        ValueError: one is listed twice or is complex, or none requires a gradient.
    """
    seen: set[Tensor] = set()
    for group in groups:
        for entry in group["params"]:
            parameter = entry[1] if isinstance(entry, tuple) else entry
            if not isinstance(parameter, Tensor):
                continue  # the base optimizer says what it takes
            label = describe(parameter, names)
            if _is_sharded(parameter):
                raise TypeError(
                    f"{label} is a DTensor: sharded parameters (fully_shard, tensor parallelism) are not supported, "
                    "for norms and restoring look at whole tensors. Use DistributedDataParallel"
                )
            if parameter in seen:
                raise ValueError(f"{label} is listed twice: give every parameter once, tied ones too")
            if parameter.is_complex():
                raise ValueError(f"{label} is complex ({parameter.dtype}): train torch.view_as_real of it instead")
            seen.add(parameter)
    if seen and not any(parameter.requires_grad for parameter in seen):
        raise ValueError(
            f"none of the {len(seen)} parameters requires a gradient ({describe(next(iter(seen)), names)}, ...): "
            "call requires_grad_(True) on those to train"
        )


def check_module(module: nn.Module | None) -> None:
    """Refuse a module that owns its parameters in flattened shards.

    Raises:
        TypeError: it is, or has in it, a FullyShardedDataParallel.
    """
    for part in () if module is None else module.modules():
        if type(part).__name__ == "FullyShardedDataParallel":
            raise TypeError("FullyShardedDataParallel is not supported: use DistributedDataParallel")


def _is_sharded(parameter: Tensor) -> bool:
    """Whether it is a DTensor, without importing what defines them: who has one has imported it."""
    defining = sys.modules.get("torch.distributed.tensor")
    return defining is not None and isinstance(parameter, defining.DTensor)


def sparse_gradient(parameter: Tensor, names: Mapping[Tensor, str]) -> RuntimeError:
    """The error for a parameter whose gradient is sparse."""
    return RuntimeError(
        f"{describe(parameter, names)} has a sparse gradient, which cannot be perturbed and clipped with the "
        "others: build its layer with sparse=False"
    )


def describe(parameter: Tensor, names: Mapping[Tensor, str]) -> str:
    """A parameter's name for people, or its shape where it has none."""
    return f"parameter {names[parameter]!r}" if parameter in names else f"a parameter of shape {tuple(parameter.shape)}"
