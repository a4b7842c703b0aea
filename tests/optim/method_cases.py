"""A small problem, a closure that remembers its calls, and the methods that the tests of the optimizers go through."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatmin.optim import Ascent, Regime, load

IMAGES = 16
ALL = slice(None)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(IMAGES, 3, 6, 6, generator=generator), torch.randint(0, 4, (IMAGES,), generator=generator)


class ShakenLayer(nn.Module):
    """A number per image and pass multiplies its output, another one the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)
        self.true_gradient = False

    def forward(self, inputs: Tensor) -> Tensor:
        there, back = torch.rand(2, len(inputs), 1, generator=self.generator)
        back = there if self.true_gradient else back
        return inputs * back + (inputs * (there - back)).detach()


NETWORKS = {
    # no bias before the norm layer: its gradient would be a rounding error, whose sign is anybody's guess
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 4),
    ),
    "dropout": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(108, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 4)
    ),
    "shaken": lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 6), nn.Tanh(), ShakenLayer(), nn.Linear(6, 4)),
    "perceptron": lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 6), nn.Tanh(), nn.Linear(6, 4)),
    "relu": lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 6), nn.ReLU(), nn.Linear(6, 4)),
    "relu without biases": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(108, 6, bias=False), nn.ReLU(), nn.Linear(6, 4, bias=False)
    ),
}


def network(name: str = "convolution") -> nn.Module:
    """The same weights in every call, norm layers' away from their usual ones and zeros."""
    torch.manual_seed(2)
    model = NETWORKS[name]()
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    return model


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def equal(left: Iterable[Tensor], right: Iterable[Tensor]) -> bool:
    return all(itertools.starmap(torch.equal, zip(left, right, strict=True)))


@dataclass
class Call:
    """One call of a closure: the weights that it saw, the samples that it was asked for, the gradient that it left."""

    weights: Tensor
    samples: list[int]
    gradient: Tensor | None


class Watched:
    """A closure of the batch, whole or in part, that remembers its calls."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.calls = model, list[Call]()
        self.inputs, self.targets = batch()

    def __call__(self, part: slice | Tensor = ALL) -> Tensor:
        self.model.zero_grad()
        losses = functional.cross_entropy(self.model(self.inputs[part]), self.targets[part], reduction="none")
        call = Call(flat(self.model.parameters()), torch.arange(IMAGES)[part].tolist(), None)
        if torch.is_grad_enabled():
            losses.mean().backward()
            call.gradient = flat(p.grad for p in self.model.parameters())
        self.calls.append(call)
        return losses

    def taken(self) -> list[Call]:
        """The calls since this was last asked."""
        calls, self.calls = self.calls, []
        return calls


ASCENTS: dict[str, Ascent] = {
    "none": load("none")(),
    "sam": load("sam")(rho=0.3),
    "sam linf": load("sam")(rho=0.02, norm="linf"),
    "sam unnormalised": load("sam")(rho=0.3, norm="none"),
    **{
        f"asam {norm} {unit} {parameters}": load("asam")(
            rho=0.05 if norm == "linf" else 0.4, eta=0.03, norm=norm, unit=unit, parameters=parameters
        )
        for norm, unit, parameters in itertools.product(
            ("l2", "linf"), ("element", "filter", "layer"), ("weights", "all")
        )
    },
    # an eta at which F = 1 + eta g*g is far from one
    "fisher": load("fisher")(rho=0.3, eta=50.0),
    "looksam": load("looksam")(rho=0.3, k=4, alpha=0.8),
    "gsam": load("gsam")(rho=0.3, alpha=0.4),
    "esam": load("esam")(rho=0.3, beta=0.6, gamma=0.5),
    "random": load("random")(rho=0.3),
}
"""Every ascent, and every choice of those that have some."""

REGIMES: dict[str, Regime] = {
    "plain": Regime(),
    "every": Regime(every=4),
    "steps": Regime(steps=3),
    "m": Regime(m=6),
    "ragged": Regime(m=6, ragged="dropped"),
    "fraction": Regime(fraction=0.25),
    "only": Regime(only="norm"),
    "depth": Regime(depth=3.0),
    "statistics": Regime(statistics="both"),
    "masks": Regime(masks="fresh"),
    "true_gradient": Regime(true_gradient="never"),
}
"""Every option of a regime at a value that is not its default, under the option's name."""

EXCLUDED = {
    ("looksam", "every"),
    ("looksam", "m"),
    ("looksam", "ragged"),
    ("looksam", "fraction"),
    ("gsam", "fraction"),
    ("esam", "fraction"),
}
"""Ascents and regimes that contradict each other."""
