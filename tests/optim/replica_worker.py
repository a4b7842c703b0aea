"""What test_optim_replicas starts under torchrun: every case on two replicas, results to a file per rank."""

import math
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from flatmin.optim import ASAM, ESAM, GSAM, SAM, FisherSAM, LookSAM, Regime, SharpnessAware
from flatmin.optim.ascents.random import RandomAscent

SGD = torch.optim.SGD
MOMENTUM = {"lr": 0.1, "momentum": 0.9}
PER_REPLICA = 8
STEPS = 5

METHODS: dict[str, Callable[..., SharpnessAware]] = {
    "sam": lambda model, **settings: SAM(model, SGD, rho=0.3, **MOMENTUM, **settings),
    "asam": lambda model, **settings: ASAM(model, SGD, **MOMENTUM, **settings),
    "fisher": lambda model, **settings: FisherSAM(model, SGD, rho=0.3, **MOMENTUM, **settings),
    "gsam": lambda model, **settings: GSAM(model, SGD, rho=0.3, **MOMENTUM, **settings),
    "looksam": lambda model, **settings: LookSAM(model, SGD, rho=0.3, k=2, **MOMENTUM, **settings),
    "esam": lambda model, **settings: ESAM(model, SGD, rho=0.3, **MOMENTUM, **settings),
    "random": lambda model, **settings: SharpnessAware(model, SGD, RandomAscent(rho=0.3), **MOMENTUM, **settings),
    "clipped": lambda model, **settings: SAM(model, SGD, rho=0.3, clip_norm=0.5, **MOMENTUM, **settings),
    "l2": lambda model, **settings: SAM(model, SGD, rho=0.3, l2=0.01, **MOMENTUM, **settings),
}
REGIMES = {"": {}, "every": {"every": 2}, "two-steps": {"steps": 2}}
MAY_BE_LOCAL = ("sam", "asam", "fisher", "random", "clipped", "l2")


def smooth() -> nn.Module:
    """A network in which the samples of a batch do not see each other."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 4))


def normalised() -> nn.Module:
    """A network with batch norm."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4))


def batch() -> tuple[Tensor, Tensor]:
    """Two replicas' images and classes."""
    generator = torch.Generator().manual_seed(1)
    size = 2 * PER_REPLICA
    return torch.randn(size, 3, 6, 6, generator=generator), torch.randint(0, 4, (size,), generator=generator)


def values(model: nn.Module) -> list[Tensor]:
    """The model's parameters, detached."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def closure_on(model: nn.Module, inputs: Tensor, targets: Tensor) -> Callable[..., Tensor]:
    """The closure of a classifier."""

    def closure(part: slice | Tensor = slice(None)) -> Tensor:
        model.zero_grad()
        losses = functional.cross_entropy(model(inputs[part]), targets[part], reduction="none")
        if torch.is_grad_enabled():
            losses.mean().backward()
        return losses

    return closure


def train(model: nn.Module, optimizer: SharpnessAware, inputs: Tensor, targets: Tensor) -> list[Tensor]:
    """The parameters after some steps."""
    closure = closure_on(model, inputs, targets)
    for _ in range(STEPS):
        optimizer.step(closure, size=len(inputs))
    assert optimizer.skipped_steps == 0
    return values(model)


def train_in_two_calls(model: nn.Module, optimizer: SharpnessAware, inputs: Tensor, targets: Tensor) -> list[Tensor]:
    """The same with the other form of a step."""
    backward = closure_on(model, inputs, targets)
    for _ in range(STEPS):
        backward()
        if optimizer.ascend():
            backward()
        optimizer.descend()
    return values(model)


def refusal(attempt: Callable[[], object]) -> tuple[str, str]:
    """What an attempt raises: type and message."""
    try:
        attempt()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


class Cases:
    """The cases of one rank."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        inputs, targets = batch()
        shard = slice(rank * PER_REPLICA, (rank + 1) * PER_REPLICA)
        self.shard = inputs[shard], targets[shard]

    def run(self) -> dict[Any, Any]:
        """Every case, by a key that the tests know."""
        return {
            **{("synced", method, ""): self.trained(METHODS[method]) for method in METHODS},
            **{("synced", "sam", name): self.trained(METHODS["sam"], regime=name) for name in REGIMES},
            **{
                ("local", method, name): self.trained(METHODS[method], regime=name, perturbation="local")
                for method in MAY_BE_LOCAL
                for name in REGIMES
            },
            **{
                ("views", method, ""): self.trained(METHODS[method], gradient_as_bucket_view=True)
                for method in ("sam", "gsam", "looksam")
            },
            ("two-calls", "sam", ""): self.trained(METHODS["sam"], train=train_in_two_calls),
            **{
                ("poisoned", perturbation, where, bad_pass): self.poisoned(perturbation, where, bad_pass)
                for perturbation in ("synced", "local")
                for where in ("gradient", "loss")
                for bad_pass in (0, 1)
            },
            "batch norm": self.batch_norm(),
            **{("refused", *key): found for key, found in self.refusals().items()},
        }

    def trained(
        self,
        make: Callable[..., SharpnessAware],
        train: Callable[..., list[Tensor]] = train,
        *,
        regime: str = "",
        gradient_as_bucket_view: bool = False,
        **settings: Any,
    ) -> list[Tensor]:
        """The parameters that this replica ends with."""
        model = DistributedDataParallel(smooth(), gradient_as_bucket_view=gradient_as_bucket_view)
        return train(model, make(model, regime=Regime(**REGIMES[regime]), **settings), *self.shard)

    def poisoned(self, perturbation: str, where: str, bad_pass: int) -> dict[str, Any]:
        """A step in which the last replica alone meets what is not finite, and a healthy one after it."""
        model, calls = DistributedDataParallel(smooth()), 0
        optimizer, healthy = METHODS["sam"](model, perturbation=perturbation), closure_on(model, *self.shard)
        optimizer.step(healthy, size=PER_REPLICA)
        before = values(model)

        def closure(part: slice) -> Tensor:
            nonlocal calls
            loss = healthy(part).mean()
            if calls == bad_pass and self.rank == 1:
                if where == "loss":
                    loss = loss * math.nan
                else:
                    next(iter(model.parameters())).grad.fill_(math.nan)
            calls += 1
            return loss

        optimizer.step(closure, size=PER_REPLICA)
        counted = optimizer.skipped_steps, optimizer.last_step_skipped
        unchanged = all(map(torch.equal, values(model), before))
        optimizer.step(healthy, size=PER_REPLICA)
        return {
            "calls": calls,
            "counted": counted,
            "unchanged": unchanged,
            "afterwards": values(model),
            "moved again": not all(map(torch.equal, values(model), before)),
        }

    def batch_norm(self) -> dict[str, Any]:
        """Parameters and the count of batches of a network with batch norm."""
        model = DistributedDataParallel(normalised())
        parameters = train(model, METHODS["sam"](model), *self.shard)
        return {"parameters": parameters, "batches": model.module[2].num_batches_tracked.item()}

    def refusals(self) -> dict[tuple[str, ...], tuple[str, str]]:
        """What optimizers say to models and settings that they do not serve."""
        mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
        plain = DistributedDataParallel(smooth())
        sharded = smooth()
        fully_shard(sharded, mesh=mesh)
        parameter = nn.Parameter(distribute_tensor(torch.randn(4, 4), mesh, [Shard(0)]))
        flat = FullyShardedDataParallel(smooth(), device_id=torch.device("cpu"))
        compiled = torch.compile(plain, backend="eager")
        inside = nn.ModuleDict({"replica": plain})
        synced_norm = nn.SyncBatchNorm.convert_sync_batchnorm(normalised())
        return {
            ("local", "gsam"): refusal(lambda: METHODS["gsam"](plain, perturbation="local")),
            ("local", "looksam"): refusal(lambda: METHODS["looksam"](plain, perturbation="local")),
            ("local", "compiled"): refusal(lambda: METHODS["gsam"](compiled, perturbation="local")),
            ("local", "inside"): refusal(lambda: METHODS["gsam"](inside, perturbation="local")),
            ("sharded", "fully_shard"): refusal(lambda: SAM(sharded, SGD, lr=0.1)),
            ("sharded", "parameters"): refusal(lambda: SAM(list(sharded.parameters()), SGD, lr=0.1)),
            ("sharded", "distribute_tensor"): refusal(lambda: SAM([("w", parameter)], SGD, lr=0.1)),
            ("flat",): refusal(lambda: SAM(flat, SGD, lr=0.1)),
            ("flat", "inside"): refusal(lambda: SAM(nn.Sequential(flat, nn.Linear(4, 4)), SGD, lr=0.1)),
            ("sync norm",): refusal(lambda: synced_norm(self.shard[0])),
        }


def main(folder: Path) -> None:
    """Run the cases of this rank, and save what they gave."""
    torch.set_default_dtype(torch.float64)
    # where one replica waits for another, an error rather than a test that hangs
    distributed.init_process_group("gloo", timeout=timedelta(seconds=15))
    rank = distributed.get_rank()
    torch.save(Cases(rank).run(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
