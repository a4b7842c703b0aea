"""The list of ascents and their options."""

import dataclasses
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from flatmin.optim import ascents, registry
from flatmin.optim.ascent import Ascent, NeighborhoodAscent, Point, option
from flatmin.optim.ascents.asam import AsamAscent
from flatmin.optim.ascents.sam import SamAscent
from flatmin.optim.step import SharpnessAware


def test_names_are_the_files_of_the_folder():
    files = {path.stem for path in Path(ascents.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(ascents.names()) == files
    assert {"none", "sam", "asam"} <= files


@pytest.mark.parametrize("name", ascents.names())
def test_every_ascent_keeps_the_rules(name):
    ascent = ascents.load(name)
    assert ascent.name == name
    assert ascent.__doc__
    assert "eps" in ascent.__doc__
    fields = dataclasses.fields(ascent)
    assert not fields or fields[0].name == "rho"
    for field in fields:
        assert field.default is not dataclasses.MISSING
        assert type(field.metadata["introduced"]) is type(field.default)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ascent().rho = 1.0
    assert ascent() == ascent()


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'assam'; did you mean 'asam'\? .*there are: asam, esam, fisher, .*, sam"):
        ascents.load("assam")
    with pytest.raises(ValueError, match="no ascent is named"):
        ascents.load("../step")


def test_an_ascent_is_one_new_file(tmp_path, monkeypatch):
    source = """
from dataclasses import dataclass
from typing import ClassVar
from flatmin.optim.ascent import NeighborhoodAscent, option
from flatmin.optim.ascents.sam import SamAscent
from flatmin.optim.displacement import Displacement

@dataclass(frozen=True)
class SignAscent(NeighborhoodAscent):
    name: ClassVar[str] = "{name}"
    rho: float = option(0.1, introduced=0.1, at_least=0.0)

    def perturbation(self, point):
        return Displacement([g.sign() for g in point.gradients], point.radii)
"""
    folder = Path(registry.__file__).parent
    monkeypatch.setattr(registry, "_FOLDER", tmp_path)
    monkeypatch.setattr(ascents, "__path__", [str(tmp_path), str(folder / "ascents")])
    (tmp_path / "sign.py").write_text(source.format(name="sign"))
    (tmp_path / "wrong.py").write_text(source.format(name="sign"))
    assert ascents.names() == ["sign", "wrong"]
    try:
        model = nn.Linear(3, 1)
        optimizer = SharpnessAware(model, torch.optim.SGD, ascents.load("sign")(rho=0.25), lr=0.0)
        seen = []

        def closure():
            optimizer.zero_grad()
            seen.append(model.weight.detach().clone())
            loss = model(torch.ones(2, 3)).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        torch.testing.assert_close(seen[1] - seen[0], torch.full((1, 3), 0.25))
        with pytest.raises(TypeError, match=r"wrong\.py must define one Ascent, with name = 'wrong'"):
            ascents.load("wrong")
    finally:
        for name in ("sign", "wrong"):
            sys.modules.pop(f"flatmin.optim.ascents.{name}", None)


@pytest.mark.parametrize("ascent", [SamAscent, AsamAscent])
@pytest.mark.parametrize("rho", [-0.1, math.inf, math.nan, "0.05", None, True])
def test_rho_out_of_range_is_refused(ascent, rho):
    with pytest.raises(ValueError, match=r"rho = .* must be a finite number >= 0"):
        ascent(rho=rho)


def test_the_other_options_are_checked_too():
    with pytest.raises(ValueError, match=r"asam: eta = -1 .*>= 0"):
        AsamAscent(eta=-1)
    with pytest.raises(ValueError, match=r"asam: parameters = 'biases' is not one of weights, all"):
        AsamAscent(parameters="biases")  # type: ignore[arg-type]


def test_the_introduced_value_stays_when_a_default_changes():
    @dataclasses.dataclass(frozen=True)
    class Changed(Ascent):
        name = "changed"
        speed: float = option(2.0, introduced=1.0, at_least=0.5)

    field = dataclasses.fields(Changed)[0]
    assert (Changed().speed, field.default, field.metadata["introduced"]) == (2.0, 2.0, 1.0)


def test_published_defaults():
    assert SamAscent().rho == 0.05
    assert AsamAscent() == AsamAscent(rho=0.5, eta=0.01, parameters="weights")


@pytest.mark.parametrize("ascent", [SamAscent(rho=0.3), AsamAscent(rho=0.3)])
def test_a_perturbation_changes_neither_weights_nor_gradients(ascent: NeighborhoodAscent):
    weights, gradients = [torch.randn(3, 2), torch.randn(2)], [torch.randn(3, 2), torch.randn(2)]
    kept = [t.clone() for t in weights + gradients]
    norm = math.hypot(*(g.norm().item() for g in gradients))
    eps = ascent.perturbation(Point(weights, gradients, [0.3, 0.3], norm, ["weight", "bias"])).tensors()
    assert all(map(torch.equal, weights + gradients, kept))
    assert [e.shape for e in eps] == [w.shape for w in weights]
