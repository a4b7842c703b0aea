"""How long a step of every sharpness-aware method takes: as a multiple of plain SGD's, and in the optimizer alone.

    python benchmarks/optimizer_step.py
    python benchmarks/optimizer_step.py --models resnet20 --methods sam asam --rounds 8
    python benchmarks/optimizer_step.py --only optimizer --json optimizer.json

Table "steps": whole steps, with forward and backward passes on random images. The base is torch's own SGD (momentum
0.9, weight decay 5e-4, fused); a ratio of 2 means twice its time. Expect the method's number of gradients, which
`flatmin.optim.cost_of` tells and the table repeats, plus what the optimizer adds. Methods with a rhythm (looksam,
every-10) are timed over whole cycles, per step.

Table "optimizer": the optimizer alone, in milliseconds per step. Its closures do no more than set ready-made
gradients, which is counted (15 microseconds a pass for resnet20's 59 tensors). Where `pytorch_optimizer` is installed,
its optimizer of the same name is timed beside ours, around the same base: a ratio above 1 means that ours is faster.
(Ours also checks that gradients are finite and holds running statistics still, which its SAM and LookSAM leave to the
caller.)

Every round times every method once, each round beginning with the next one; a ratio is that of two times of one round,
so that what slows down the machine slows down both. Shown are medians over rounds, and in brackets the interval that
holds the true median with 95 % confidence (order statistics; of fewer than six rounds, all of their range). Two methods
whose intervals overlap are not known to differ. On the CPU one thread is used and CPU seconds are counted, which other
processes disturb little; on CUDA it is the time between two events.

The default on the CPU takes hours, nearly all of them for the whole steps of wrn16_4 and vit_tiny: fewer --rounds or a
smaller --batch still show the ratios.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import flatmin.models  # noqa: F401  registers cifar_cnn, cifar_resnet20 and wrn16_4 with timm
from flatmin.optim import Method, SharpnessAware, configured, cost_of

# the learning rate does not change the time, and a small one keeps weights finite however many rounds there are
BASE_SETTINGS: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4, "fused": True}
BASE = "base"
WARM_UP_STEPS = 3
LEAST_SECONDS = 0.005
"""A lap of the optimizer alone repeats its step for about so long."""

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "small": ("cifar_cnn", {}),
    "resnet20": ("cifar_resnet20", {}),
    "wrn16_4": ("wrn16_4", {}),
    "vit_tiny": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 4}),
}

METHODS: dict[str, Callable[[int], Method]] = {
    "sgd": lambda batch: configured("none"),
    "sam": lambda batch: configured("sam"),
    "asam": lambda batch: configured("asam"),
    "fisher": lambda batch: configured("fisher"),
    "looksam": lambda batch: configured("looksam", k=5),
    "gsam": lambda batch: configured("gsam"),
    "esam": lambda batch: configured("esam"),
    "every-10": lambda batch: configured("sam", every=10),
    "n-step-2": lambda batch: configured("sam", steps=2),
    "m-quarter": lambda batch: configured("sam", m=batch // 4),
    "half": lambda batch: configured("sam", fraction=0.5),
    "norm-only": lambda batch: configured("sam", only="norm"),
    "random": lambda batch: configured("random"),
}
"""By the name on the command line; the last six but random are SAM under a regime."""

PEERS = ("sam", "asam", "looksam", "gsam")
"""Methods that `pytorch_optimizer` has too."""

Step = Callable[[], object]
Stopwatch = Callable[[Step], float]
Seconds = dict[str, list[float]]
"""Of each method, the seconds per step in every round."""


@dataclass(frozen=True)
class Lap:
    """What a round times of one method: ``work``, ``repeats`` times, before each of them ``prepare`` off the clock."""

    work: Step
    steps: int = 1
    """Steps in one work."""
    repeats: int = 1
    prepare: Step = lambda: None

    def seconds_per_step(self, stopwatch: Stopwatch) -> float:
        """Run the lap."""
        total = 0.0
        for _ in range(self.repeats):
            self.prepare()
            total += stopwatch(self.work)
        return total / (self.repeats * self.steps)


# the clock


def cpu_stopwatch(work: Step) -> float:
    """CPU seconds of all threads of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def cuda_stopwatch(work: Step) -> float:
    """Seconds on the device's clock, from an idle device to the end of all that was queued."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def timed(laps: dict[str, Lap], rounds: int, stopwatch: Stopwatch, label: str) -> Seconds:
    """Time every lap once in every round, each round beginning with the next lap."""
    seconds: Seconds = {name: [] for name in laps}
    order = list(laps)
    for number in range(rounds):
        for name in order:
            seconds[name].append(laps[name].seconds_per_step(stopwatch))
        order = [*order[1:], order[0]]
        if sys.stderr.isatty():
            end = "\n" if number + 1 == rounds else ""
            print(f"\r{label}: round {number + 1} of {rounds}", end=end, file=sys.stderr, flush=True)
    return seconds


# what is timed


def sharpness_aware(model: nn.Module, method: Method) -> SharpnessAware:
    """Our optimizer for a method."""
    return SharpnessAware(model, torch.optim.SGD, method.ascent, regime=method.regime, **BASE_SETTINGS)


def cycle_of(method: Method) -> int:
    """The number of steps after which the method does the same again."""
    return method.regime.every * method.ascent.period


def size_for(method: Method, batch: int) -> int | None:
    """The ``size`` to give a step: none where the method takes the batch as a whole, as most do."""
    return batch if method.regime.looks_at_parts or method.ascent.needs_losses else None


class Training:
    """Forward and backward passes of a model on one batch of random images."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        self.model, self.batch = model, batch
        device = next(model.parameters()).device
        self.images = torch.randn(batch, 3, 32, 32, device=device)
        self.labels = torch.randint(10, (batch,), device=device)

    def closure(self, part: slice | Tensor | None = None) -> Tensor:
        """The mean loss of the batch with its gradients; of a ``part``, the losses of its samples."""
        self.model.zero_grad()
        images, labels = (self.images, self.labels) if part is None else (self.images[part], self.labels[part])
        losses = cross_entropy(self.model(images), labels, reduction="none")
        loss = losses.mean()
        if torch.is_grad_enabled():
            loss.backward()
        return loss if part is None else losses


class ReadyGradients:
    """Stands in for passes: two sets of gradients, set by turns, for the passes of a step leave different ones."""

    def __init__(self, model: nn.Module, batch: int) -> None:
        self.parameters, self.batch = list(model.parameters()), batch
        self.originals = [[1e-2 * torch.randn_like(p) for p in self.parameters] for _ in range(2)]
        self.sets = copy.deepcopy(self.originals)
        self.losses = torch.rand(batch, device=self.parameters[0].device)
        self.loss = self.losses.mean()
        self.calls = 0

    def renew(self) -> None:
        """Undo what a step did to them: some methods change gradients in place."""
        for values, originals in zip(self.sets, self.originals, strict=True):
            torch._foreach_copy_(values, originals)
        self.calls = 0

    def closure(self, part: slice | Tensor | None = None) -> Tensor:
        """Set gradients, and return a loss, or those of a ``part``'s samples."""
        if torch.is_grad_enabled():
            for parameter, value in zip(self.parameters, self.sets[self.calls % 2], strict=True):
                parameter.grad = value
            self.calls += 1
        return self.loss if part is None else self.losses[part]


def base_step(model: nn.Module, closure: Callable[[], Tensor]) -> Step:
    """A step of torch's SGD."""
    optimizer = torch.optim.SGD(model.parameters(), **BASE_SETTINGS)

    def step() -> None:
        closure()
        optimizer.step()

    return step


def our_step(optimizer: SharpnessAware, passes: Training | ReadyGradients, method: Method) -> Step:
    """A step of our optimizer."""
    size = size_for(method, passes.batch)
    return lambda: optimizer.step(passes.closure, size=size)


def peer_step(name: str, model: nn.Module, ready: ReadyGradients) -> Step:
    """A step of `pytorch_optimizer`'s optimizer, with the settings of ours of that name."""
    theirs, sgd = importlib.import_module("pytorch_optimizer"), torch.optim.SGD
    ascent: Any = METHODS[name](ready.batch).ascent
    if name == "gsam":
        base = sgd(model.parameters(), **BASE_SETTINGS)
        lr, rho = BASE_SETTINGS["lr"], ascent.rho
        schedule = theirs.ProportionScheduler(
            torch.optim.lr_scheduler.ConstantLR(base, factor=1), max_lr=lr, min_lr=lr, max_value=rho, min_value=rho
        )
        gsam = theirs.GSAM(model.parameters(), base, model, schedule, alpha=ascent.alpha)
        closure = torch.enable_grad()(ready.closure)
        return lambda: gsam.step(lambda: (None, closure()))

    if name == "looksam":
        settings = {"k": ascent.k, "alpha": ascent.alpha, **BASE_SETTINGS}
        optimizer = theirs.LookSAM(model.parameters(), sgd, rho=ascent.rho, **settings)
    else:
        optimizer = theirs.SAM(model.parameters(), sgd, rho=ascent.rho, adaptive=name == "asam", **BASE_SETTINGS)

    def step() -> None:
        ready.closure()
        optimizer.first_step()
        ready.closure()
        optimizer.second_step()

    return step


# the two measurements


def whole_steps(template: nn.Module, arguments: argparse.Namespace, stopwatch: Stopwatch, label: str) -> Seconds:
    """Time whole steps of the base and of every method, each on a copy of the model of its own."""
    training = Training(copy.deepcopy(template), arguments.batch)
    laps = {BASE: Lap(base_step(training.model, training.closure))}
    optimizers = []
    for name in arguments.methods:
        method, training = METHODS[name](arguments.batch), Training(copy.deepcopy(template), arguments.batch)
        optimizers.append(sharpness_aware(training.model, method))
        laps[name] = Lap(repeated(our_step(optimizers[-1], training, method), cycle_of(method)), cycle_of(method))
    for lap in laps.values():
        for _ in range(math.ceil(WARM_UP_STEPS / lap.steps)):
            lap.work()
    seconds = timed(laps, arguments.rounds, stopwatch, label)
    check_none_skipped(optimizers)
    return seconds


def repeated(step: Step, times: int) -> Step:
    """That step, so many times."""

    def steps() -> None:
        for _ in range(times):
            step()

    return steps


def optimizers_alone(template: nn.Module, arguments: argparse.Namespace, stopwatch: Stopwatch, label: str) -> Seconds:
    """Time the optimizers without passes: base, methods, and peers where they are installed."""
    laps: dict[str, Lap] = {}
    optimizers: list[SharpnessAware] = []

    def add(name: str, make: Callable[[nn.Module, ReadyGradients], Step], cycle: int = 1) -> None:
        model = copy.deepcopy(template)
        ready = ReadyGradients(model, arguments.batch)
        step = make(model, ready)
        lap = Lap(step, repeats=cycle * math.ceil(WARM_UP_STEPS / cycle), prepare=ready.renew)
        lap.seconds_per_step(stopwatch)
        cycles = math.ceil(LEAST_SECONDS / (cycle * lap.seconds_per_step(stopwatch)))
        laps[name] = Lap(step, repeats=cycle * cycles, prepare=ready.renew)

    def ours(method: Method, model: nn.Module, ready: ReadyGradients) -> Step:
        optimizers.append(sharpness_aware(model, method))
        return our_step(optimizers[-1], ready, method)

    add(BASE, lambda model, ready: base_step(model, ready.closure))
    for name in arguments.methods:
        method = METHODS[name](arguments.batch)
        add(name, partial(ours, method), cycle_of(method))
        if name in PEERS and peers_installed():
            add(peer(name), partial(peer_step, name), cycle_of(method))
    seconds = timed(laps, arguments.rounds, stopwatch, label)
    check_none_skipped(optimizers)
    return seconds


def check_none_skipped(optimizers: Iterable[SharpnessAware]) -> None:
    """Refuse times of steps that were not taken."""
    for optimizer in optimizers:
        if optimizer.skipped_steps:
            raise RuntimeError(f"{optimizer.skipped_steps} steps were skipped, not timed: {optimizer}")


def peer(name: str) -> str:
    """The key of `pytorch_optimizer`'s optimizer beside ours."""
    return f"{name} of pytorch_optimizer"


def peers_installed() -> bool:
    """Whether `pytorch_optimizer` can be imported."""
    return importlib.util.find_spec("pytorch_optimizer") is not None


# what is shown


@dataclass(frozen=True)
class Median:
    """A median over rounds and the interval that holds the true one with 95 % confidence."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Median:
        """By order statistics: the number of values below the true median is binomial, whatever they come from."""
        ordered = sorted(values)
        outside = max(1, int(binom.ppf(0.025, len(ordered), 0.5)))
        return cls(statistics.median(ordered), ordered[outside - 1], ordered[-outside])

    @classmethod
    def of_ratios(cls, over: Sequence[float], under: Sequence[float]) -> Median:
        """Of the ratios, round by round."""
        return cls.of(a / b for a, b in zip(over, under, strict=True))

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def milliseconds(seconds: Iterable[float]) -> Median:
    """The median of times, in milliseconds."""
    return Median.of(1000 * second for second in seconds)


def steps_table(seconds: Seconds, batch: int) -> list[list[str]]:
    """Rows of whole steps: every method's ratio to the base."""
    rows = [["method", "ms per step", "ratio to base", "gradients"]]
    for name, times in seconds.items():
        method = METHODS[name](batch) if name in METHODS else None
        cost = "1.00" if method is None else cost_in_words(method)
        ratio = Median.of_ratios(times, seconds[BASE])
        rows.append([name, f"{milliseconds(times).value:.2f}", str(ratio) if method else "1", cost])
    return rows


def cost_in_words(method: Method) -> str:
    """The gradients, and forward passes beside them, that a step of the method takes."""
    if not method.ascent.radius({}):
        return "1.00"
    cost = cost_of(method.ascent, method.regime)
    return f"{cost.gradients:.2f}" + (f" + {cost.forwards:.2f} forward" if cost.forwards else "")


def optimizer_table(seconds: Seconds) -> list[list[str]]:
    """Rows of optimizers alone: ours, and `pytorch_optimizer`'s with its ratio to ours."""
    rows = [["method", "ms per step", "pytorch_optimizer, ms", "its ratio to ours"]]
    for name, times in seconds.items():
        if name == BASE or name in METHODS:
            theirs = seconds.get(peer(name))
            missing = "not installed" if name in PEERS else ""
            compared = [missing, ""] if theirs is None else [milliseconds(theirs), Median.of_ratios(theirs, times)]
            rows.append([name, str(milliseconds(times)), *map(str, compared)])
    return rows


def print_table(title: str, rows: list[list[str]]) -> None:
    """Print rows in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n{title}")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def setting(device: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Where and how the times were taken."""
    return {
        "machine": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "batch": arguments.batch,
        "rounds": arguments.rounds,
    }


def processor() -> str:
    """The CPU's name, as Linux tells it; elsewhere what Python knows."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


# the command line


def parsed(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL", help=listed(MODELS)
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD", help=listed(METHODS)
    )
    parser.add_argument("--batch", type=int, default=128, help="images per step, at least 4 (default 128)")
    parser.add_argument("--rounds", type=int, default=30, help="times every method is timed (default 30)")
    parser.add_argument("--only", choices=("steps", "optimizer"), help="one of the two tables (default both)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the seconds per step of every round there")
    arguments = parser.parse_args(command)
    if arguments.batch < 4:
        parser.error(f"--batch {arguments.batch}: it must be at least 4, for m-quarter takes quarters of it")
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: it must be at least 1")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here; leave it out to measure on the CPU")
    return arguments


def listed(names: Iterable[str]) -> str:
    """Help for an option that takes some of these names."""
    return f"any of {', '.join(names)} (default all)"


def main() -> None:
    """Measure, print, and save."""
    arguments = parsed()
    torch.manual_seed(0)
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    stopwatch = cpu_stopwatch if arguments.device == "cpu" else cuda_stopwatch
    results: dict[str, Any] = {"setting": setting(arguments.device, arguments), "steps": {}, "optimizer": {}}
    print(", ".join(f"{name}: {value}" for name, value in results["setting"].items()))
    for key in arguments.models:
        name, options = MODELS[key]
        model = timm.create_model(name, num_classes=10, **options).to(arguments.device).train()
        if arguments.only != "optimizer":
            seconds = results["steps"][key] = whole_steps(model, arguments, stopwatch, f"{key}, steps")
            print_table(f"{key}: whole steps", steps_table(seconds, arguments.batch))
        if arguments.only != "steps":
            seconds = results["optimizer"][key] = optimizers_alone(model, arguments, stopwatch, f"{key}, optimizer")
            print_table(f"{key}: the optimizer alone", optimizer_table(seconds))
        if arguments.json is not None:  # after every model, for all of them take long
            arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
