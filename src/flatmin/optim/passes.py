"""The forward-backward passes of a step: from calls of the closure to gradients, whatever a pass consists of."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from .gradient import Gradient
from .norm_statistics import RunningStatistics
from .parameters import Group, sparse_gradient
from .replay import RandomState, generators_of, random_devices, replayed
from .replicas import Replicas
from .shaken import set_true, shaking_modules
from .snapshot import Snapshot

Part = slice | Tensor
"""An index into the batch: a slice, or the numbers of the samples."""

WHOLE = slice(None)

Closure = Callable[..., Tensor]

CLOSURE = """

    def closure():
        optimizer.zero_grad()
        loss = loss_function(model(inputs), targets)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
"""

PART_CLOSURE = """

    def closure(part):
        optimizer.zero_grad()
        losses = cross_entropy(model(inputs[part]), targets[part], reduction="none")
        if torch.is_grad_enabled():
            losses.mean().backward()
        return losses

    loss = optimizer.step(closure, size=len(inputs))
"""


class Passes:
    """Runs the closure of a step: at w (`clean`), at w + eps (`again`), and without gradients (`losses`).

    A pass may be several calls of the closure, each on so many images as memory or batch norm is to have at once.
    Its gradient is then the mean over the images. Loss scales are divided out, and the L2 term's gradient is added.

    Args:
        base: whose groups are trained; a group's ``l2`` is the factor of its L2 term.
        names: of the parameters, for messages.
        module: whose running statistics are looked after; None for nobody's.
        scaler: by which the closure scales its loss.
        micro_batch: images per call of the closure; None for all at once.
        shared_masks: whether the passes of a step draw the same random numbers.
        true_ascent: whether passes whose gradient is to climb along compute the true gradient (`flatmin.optim.shaken`).
        replicas: the module's.
    """

    def __init__(
        self,
        base: Optimizer,
        names: dict[Tensor, str],
        module: nn.Module | None,
        *,
        scaler: GradScaler | None,
        micro_batch: int | None,
        shared_masks: bool,
        true_ascent: bool,
        replicas: Replicas,
    ) -> None:
        self.base, self.names, self.module = base, names, module
        self.scaler, self.micro_batch, self.shared_masks, self.replicas = scaler, micro_batch, shared_masks, replicas
        self._own = generators_of(module)
        self._shaking = shaking_modules(module) if true_ascent else []
        self._before = Snapshot()
        self._calls: list[_Call] = []
        self._call = 0
        self._start: RandomState | None = None

    @contextmanager
    def over(self, closure: Closure, size: int | None) -> Iterator[RunningStatistics]:
        """Inside, passes are over the batch whose loss the closure computes, of ``size`` samples if that is known.

        Whatever is raised inside, running statistics go back to where they were.
        """
        self._closure, self._size = closure, size
        self._call = 0
        self._devices = random_devices(self.base.param_groups)
        self.statistics = RunningStatistics(self.module, self._before)
        try:
            yield self.statistics
        except BaseException:
            self.statistics.restore()
            raise
        finally:  # the closure holds the batch
            del self._closure, self.statistics
            self._start = None

    def clean(self, part: Part = WHOLE, share: float = 1.0, *, apart: bool = False, climbing: bool = False) -> Gradient:
        """The pass at w. It moves running statistics and draws random numbers that the next passes draw again.

        Args:
            part: on which samples.
            share: of all samples that the step has clean passes on.
            apart: whether a replica keeps its gradient to itself.
            climbing: whether the gradient is that of an ascent.
        """
        if self.shared_masks:
            self._start = RandomState(self._devices, self._own)
        with self._climbing(climbing):
            return self._gradient(part, share, apart)

    def again(self, part: Part = WHOLE, *, still: bool = True, apart: bool = False, climbing: bool = False) -> Gradient:
        """A pass at w + eps; running statistics stand ``still`` in it, or move as in any other."""
        with self._same_masks(), self.statistics.still() if still else nullcontext(), self._climbing(climbing):
            return self._gradient(part, None, apart)

    def losses(self, part: Part = WHOLE) -> Tensor:
        """The losses of single samples at w + eps; calls the closure with gradients disabled."""
        with torch.no_grad(), self._same_masks(), self.statistics.still():
            return torch.cat([self._sample_losses(chunk) for _, chunk in self._chunks(part)])

    def left(self, *, first: bool = False) -> Gradient:
        """The gradient that a loop of the caller's own has left; ``first`` in its step, or after another."""
        self._call = 0 if first else self._call
        nothing = torch.zeros((), device=self._parameters()[0].device)
        return self._with_l2(self._collected(nothing, None), apart=False)

    def _same_masks(self) -> AbstractContextManager[None]:
        return nullcontext() if self._start is None else replayed(self._start, self._devices, self._own)

    def _climbing(self, climbing: bool) -> AbstractContextManager[None]:
        return set_true(self._shaking) if climbing and self._shaking else nullcontext()

    def _gradient(self, part: Part, share: float | None, apart: bool) -> Gradient:
        """The mean gradient over a part; ``share`` is None where running statistics are not the concern."""
        chunks = list(self._chunks(part))
        with self.replicas.apart() if apart else nullcontext():
            if len(chunks) == 1:
                return self._with_l2(self._called(chunks[0][1], share), apart)
            total = GradientSum()
            for weight, chunk in chunks:
                total.add(self._called(chunk, None if share is None else share * weight), weight)
            return self._with_l2(total.result(self._parameters()), apart)

    def _called(self, part: Part, share: float | None) -> Gradient:
        """One call of the closure."""
        with torch.enable_grad(), nullcontext() if share is None else self.statistics.moving(share):
            loss = self._closure() if self._size is None else self._closure(part)
        many = self._size is not None and isinstance(loss, Tensor) and loss.dim() == 1
        if not isinstance(loss, Tensor) or not (loss.numel() == 1 or many):
            wanted = "a tensor with one element" + (", or one per sample" if self._size is not None else "")
            raise TypeError(f"the closure must return its loss, {wanted}, not {loss!r}:" + CLOSURE)
        losses = loss.detach() if many else None
        return self._collected(loss.detach() if losses is None else losses.mean(), losses)

    def _sample_losses(self, part: Part) -> Tensor:
        try:
            losses = self._closure(part)
        except RuntimeError as error:
            error.add_note("The closure is called with gradients disabled too, to compare samples:" + PART_CLOSURE)
            raise
        if losses.dim() != 1:
            raise missing_losses("this method")
        return losses

    def _collected(self, loss: Tensor, losses: Tensor | None) -> Gradient:
        """What ``.grad`` holds, loss scale divided out."""
        if self.scaler is not None:
            self.scaler.unscale_(self._next_call())  # type: ignore[arg-type]
        gradient = Gradient(loss, losses, [], [])
        for group in self.base.param_groups:
            for parameter in group["params"]:
                value = parameter.grad
                if value is not None:
                    if value.layout is not torch.strided:
                        raise sparse_gradient(parameter, self.names)
                    gradient.parameters.append(parameter)
                    gradient.values.append(value)
        return gradient

    def _next_call(self) -> "_Call":
        """The next stand-in for the optimizer: a scaler unscales each one's gradients once between its updates."""
        if self._call == len(self._calls):
            self._calls.append(_Call(self.base))
        self._call += 1
        return self._calls[self._call - 1]

    @torch.no_grad()
    def _with_l2(self, gradient: Gradient, apart: bool) -> Gradient:
        """The gradient with that of the L2 term ``l2 / 2 ||w||^2`` added, at the weights of the moment.

        Gradients that replicas share have the mean of this term too, for their weights may differ.
        """
        for group in self.base.param_groups:
            if group.get("l2"):
                reached = [p for p in group["params"] if p.grad is not None]
                weights = reached if apart else self.replicas.mean(reached)
                torch._foreach_add_([p.grad for p in reached], weights, alpha=group["l2"])
        return gradient

    def _chunks(self, part: Part) -> Iterator[tuple[float, Part]]:
        """What the closure is called on, each with its share of the part's samples."""
        if self.micro_batch is None or self._size is None:
            yield 1.0, part
            return
        length = part_length(part, self._size)
        for start in range(0, length, self.micro_batch):
            stop = min(start + self.micro_batch, length)
            yield (stop - start) / length, sub_part(part, start, stop, self._size)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.base.param_groups for parameter in group["params"]]


class GradientSum:
    """A weighted sum of gradients; a parameter that some of them did not reach has none from these."""

    def __init__(self) -> None:
        self._values: dict[Tensor, Tensor] = {}
        self._loss: Tensor | None = None
        self._losses: list[Tensor] = []

    @torch.no_grad()
    def add(self, gradient: Gradient, weight: float) -> None:
        """Add a gradient; its tensors may change afterwards."""
        loss = gradient.loss * weight
        self._loss = loss if self._loss is None else self._loss + loss
        self._losses += [] if gradient.losses is None else [gradient.losses]
        for parameter, value in zip(gradient.parameters, gradient.values, strict=True):
            if parameter in self._values:
                self._values[parameter].add_(value, alpha=weight)
            else:
                self._values[parameter] = value * weight

    def result(self, parameters: list[Tensor]) -> Gradient:
        """The sum, which is now in ``.grad`` too, of those ``parameters`` that any of the gradients reached."""
        assert self._loss is not None
        for parameter in parameters:
            parameter.grad = self._values.get(parameter)
        reached = [parameter for parameter in parameters if parameter in self._values]
        losses = torch.cat(self._losses) if self._losses else None
        return Gradient(self._loss, losses, reached, [self._values[parameter] for parameter in reached])


def part_length(part: Part, size: int) -> int:
    """The number of samples in a part of a batch of ``size``."""
    return len(range(*part.indices(size))) if isinstance(part, slice) else part.numel()


def sub_part(part: Part, start: int, stop: int, size: int) -> Part:
    """The samples ``start`` to ``stop`` of a part of a batch of ``size``."""
    if isinstance(part, Tensor):
        return part[start:stop]
    first = part.indices(size)[0]
    return slice(first + start, first + stop)


class _Call:
    """Stands in for the optimizer where a GradScaler counts who has been unscaled."""

    def __init__(self, base: Optimizer) -> None:
        self._base = base

    @property
    def param_groups(self) -> list[Group]:
        return self._base.param_groups


def missing_losses(what: str) -> TypeError:
    """The error for a closure that returns the mean loss to a method that compares samples."""
    return TypeError(f"{what} compares samples: the closure must return one loss for each:" + PART_CLOSURE)


def missing_parts(what: str) -> ValueError:
    """The error for a step without ``size`` of a method that looks at parts of the batch."""
    return ValueError(f"{what} needs the losses of parts of the batch: give step() its size:" + PART_CLOSURE)
