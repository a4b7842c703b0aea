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
from flatmin.optim.geometry import ball
from flatmin.optim.gradient import measured_norm
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


class Remembering(NeighborhoodAscent):
    """SAM that keeps its clean gradient from step to step, and ascends in every one."""

    name = "remembering"
    keeps_clean_gradient = True
    remembers = True

    def perturbation(self, point):
        return ball(point)

    def descent(self, clean, sharp, memory):
        memory.update(zip(clean.parameters, clean.values, strict=True))


def test_what_a_method_remembers_is_saved_whatever_its_period(network, closure_for):
    model = network()
    optimizer = SharpnessAware(model, torch.optim.SGD, Remembering(0.1), lr=0.1)
    optimizer.step(closure_for(model))
    kept = optimizer.state_dict()["sharpness_aware"]["memory"]
    loaded = SharpnessAware(model, torch.optim.SGD, Remembering(0.1), lr=0.1)
    loaded.load_state_dict(optimizer.state_dict())
    assert len(kept) == len(list(model.parameters()))
    assert all(map(torch.equal, loaded.state_dict()["sharpness_aware"]["memory"].values(), kept.values()))


@pytest.mark.parametrize(("method", "flag"), [("descent", "keeps_clean_gradient"), ("without_ascent", "remembers")])
def test_a_method_that_would_never_be_called_is_refused(method, flag):
    with pytest.raises(TypeError, match=rf"Silent defines {method}\(\), .* only where {flag} = True"):
        type("Silent", (NeighborhoodAscent,), {"name": "silent", method: lambda *_: None})


def test_norms_of_bfloat16_gradients_are_not_rounded_again():
    values = [torch.full((441,), 0.5, dtype=torch.bfloat16), torch.full((3,), 0.0, dtype=torch.bfloat16)]
    assert measured_norm(torch.tensor(1.0), values).total == pytest.approx(10.5, rel=1e-6)
    values.append(torch.full((1,), 0.23, dtype=torch.bfloat16))
    expected = math.sqrt(441 * 0.25 + values[2].double().item() ** 2)
    assert measured_norm(torch.tensor(1.0), values).total == pytest.approx(expected, rel=1e-6)


def test_a_group_that_is_refused_leaves_no_name_behind(network):
    model = network()
    optimizer = SharpnessAware(model[0].named_parameters("0"), torch.optim.SGD, SamAscent(), lr=0.1)
    with pytest.raises(ValueError, match="rho of a param group"):
        optimizer.add_param_group({"params": list(model[5].named_parameters("5")), "rho": -1.0})
    assert set(optimizer._names.values()) == {"0.weight", "0.bias"}
