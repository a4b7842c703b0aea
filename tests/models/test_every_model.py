"""Every registered model on two 32x32 images: gradients, compiled, channels last, bf16, saved and loaded, other heads.

These are the facts that no family's own tests state. `built` makes a model once for all of its tests.
"""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from small_networks import SMALL_NETWORKS
from torch import Tensor, nn
from torch.nn import functional

import flatmin.models  # noqa: F401
from flatmin.catalogue import models
from flatmin.models.shake import ShakeNoise

SYNONYMS = [name for name in models() if f"cifar_{name}" in models()]
NAMES = [name for name in models() if name not in SYNONYMS]

# compiling takes time by the layer, 30 s for 272: networks with 100 or more are compiled whole among the slow tests
SHALLOW: dict[str, dict[str, Any]] = {
    "cifar_densenet121": {"block_config": (2, 2, 2, 2)},
    "cifar_densenet_bc100_12": {"depth": 22},
    "cifar_pyramidnet110_a270": {"depth": 20},
    "cifar_pyramidnet110_a270_sd": {"depth": 20},
    "cifar_pyramidnet272_a200": {"depth": 29},
    "cifar_pyramidnet272_a200_sd": {"depth": 29},
    "cifar_pyramidnet272_a200_sd_sam": {"depth": 29},
    "cifar_resnet110": {"blocks_per_stage": 3},
}

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 8])

Gradients = dict[str, Tensor]


# where all weights of a layer start at zero, and hide from the logits what lies before it
ZERO_HEADS = {"cifar_mixer_nano_patch4", "cifar_mixer_s_patch4"}  # timm's weight_init=""


@dataclass
class Built:
    """A model in evaluation mode, and what it gave for `IMAGES`.

    Attributes:
        name: as registered.
        model: the network; no test may change it.
        drawn: the weights that started at zero, and were drawn so that they hide nothing.
        logits_in_training: of `training_pass`, which the batch norms remember.
        gradients: likewise.
        logits: in evaluation mode.
    """

    name: str
    model: nn.Module
    drawn: list[str]
    logits_in_training: Tensor
    gradients: Gradients
    logits: Tensor


def build(name: str, **arguments: Any) -> Built:
    torch.manual_seed(1)
    model = timm.create_model(name, **arguments)
    drawn = draw_zero_weights(model)
    return Built(name, model, drawn, *training_pass(model), evaluated(model))


# all tests of a model in one process, which then builds it once
@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in NAMES])
def built(request: pytest.FixtureRequest) -> Built:
    """One model for all of its tests."""
    return build(request.param)


def draw_zero_weights(model: nn.Module) -> list[str]:
    zero = [name for name, weight in model.named_parameters() if name.endswith(".weight") and not weight.any()]
    for name in zero:
        nn.init.normal_(model.get_parameter(name), std=0.1)
    return zero


def noises(model: nn.Module) -> list[ShakeNoise]:
    return [module for module in model.modules() if isinstance(module, ShakeNoise)]


def training_pass(model: nn.Module) -> tuple[Tensor, Gradients]:
    """Return logits and gradients in training mode; the same ones for the same weights, noise or not."""
    torch.manual_seed(2)
    for noise in noises(model):
        noise.generator.manual_seed(3)
    logits = model.train()(IMAGES)
    functional.cross_entropy(logits, LABELS).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return logits.detach(), gradients


@torch.no_grad()
def evaluated(model: nn.Module, images: Tensor = IMAGES) -> Tensor:
    return model.eval()(images)


def relative_distance(a: Tensor, b: Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def test_every_parameter_gets_a_gradient(built: Built) -> None:
    assert built.logits_in_training.shape == built.logits.shape == (2, 10)
    assert built.logits_in_training.isfinite().all()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in built.gradients.values())
    assert not [name for name, gradient in built.gradients.items() if not gradient.any()]


def test_only_these_networks_start_with_layers_of_zeros(built: Built) -> None:
    kinds = {type(built.model.get_submodule(name.removesuffix(".weight"))) for name in built.drawn}
    assert kinds == ({nn.Linear} if built.name in ZERO_HEADS else set())


def test_compiled_model_gives_the_logits_and_gradients_of_the_eager_one(built: Built) -> None:
    arguments = SHALLOW.get(built.name)
    assert_compiles(build(built.name, **arguments) if arguments else built, "aot_eager", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHALLOW)
def test_deep_model_compiles_at_its_full_depth(name: str) -> None:
    assert_compiles(build(name), "aot_eager", 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_inductor_compiles_one_model_of_every_family(name: str) -> None:
    # fused loops add in another order than the eager kernels, and batch norms over two images enlarge the difference
    assert_compiles(build(name, **SMALL_NETWORKS[name]), "inductor", 1e-3)


def test_small_networks_are_of_every_family() -> None:
    assert {models()[name] for name in SMALL_NETWORKS} == set(models().values())


def assert_compiles(eager: Built, backend: str, tolerance: float) -> None:
    """Compile a copy, in one graph if the model draws no noise: that is left to Python."""
    torch._dynamo.reset()  # what was compiled for other models
    model = copy.deepcopy(eager.model)
    model.compile(backend=backend, fullgraph=not noises(model))
    logits, gradients = training_pass(model)
    assert relative_distance(logits, eager.logits_in_training) < tolerance
    # a bias before a norm has no effect: its gradient is zero but for rounding, and measured by those of the others
    floor = 1e-4 * torch.stack([gradient.norm() for gradient in eager.gradients.values()]).norm()
    for name, gradient in gradients.items():
        expected = eager.gradients[name]
        assert (gradient - expected).norm() <= tolerance * max(expected.norm(), floor), name


def test_channels_last_gives_the_same_logits(built: Built) -> None:
    model = copy.deepcopy(built.model).to(memory_format=torch.channels_last)
    logits = evaluated(model, IMAGES.contiguous(memory_format=torch.channels_last))
    assert relative_distance(logits, built.logits) < 1e-5


def test_bf16_autocast_gives_nearly_the_same_logits(built: Built) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        logits = evaluated(built.model)
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()
    assert relative_distance(logits, built.logits) < 0.04  # 2^-9 for every rounding, the square root of 200 of them


def test_saved_weights_and_a_copy_give_the_same_logits(built: Built) -> None:
    saved = safetensors.torch.save(built.model.state_dict())
    other = timm.create_model(built.name)
    assert not torch.equal(evaluated(other), built.logits)
    other.load_state_dict(safetensors.torch.load(saved))
    assert torch.equal(evaluated(other), built.logits)
    assert torch.equal(evaluated(copy.deepcopy(other)), built.logits)


@pytest.mark.parametrize("name", NAMES)
def test_channels_and_classes_are_free_and_the_head_can_be_replaced(name: str) -> None:
    with torch.device("meta"):
        images = torch.zeros(2, 1, 32, 32)
        model = timm.create_model(name, in_chans=1, num_classes=100).eval()
        assert model(images).shape == (2, 100)
        assert model.get_classifier().out_features == model.num_classes == 100

        features = model.forward_features(images)
        assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
        model.reset_classifier(7)
        assert model(images).shape == (2, 7)
        model.reset_classifier(0)
        assert model(images).shape == (2, model.head_hidden_size)

        headless = timm.create_model(name, in_chans=1, num_classes=0).eval()
        assert headless(images).shape == (2, model.head_hidden_size)


@pytest.mark.parametrize("name", SYNONYMS)
def test_synonym_builds_the_same_network(name: str) -> None:
    with torch.device("meta"):
        first, second = timm.create_model(f"cifar_{name}"), timm.create_model(name)
    assert type(first) is type(second)
    assert {key: tensor.shape for key, tensor in first.state_dict().items()} == {
        key: tensor.shape for key, tensor in second.state_dict().items()
    }
    assert second.default_cfg == first.default_cfg
    assert second.default_cfg["architecture"] == f"cifar_{name}"


@pytest.mark.parametrize("name", NAMES)
def test_entry_point_says_where_the_network_is_published(name: str) -> None:
    text = timm.model_entrypoint(name).__doc__
    published = r"(19|20)\d\d\b.*\b(tables?|figures?|sections?|appendix) \w"
    own = r"\b(ours|our own|timm's own|smaller than any in the paper)\b"
    assert re.search(f"{published}|{own}", text, re.DOTALL | re.IGNORECASE)
    assert re.search(r"\d(,\d{3})+|\d\.\d+M", text), "and how many parameters it has"


def test_timm_lists_every_model() -> None:
    assert set(timm.list_models("*cifar*")) == set(NAMES)
    assert set(models()) <= set(timm.list_models())


def test_no_name_is_one_of_timm_s_own() -> None:
    taken = "import sys, timm; print([name for name in sys.argv[1:] if timm.is_model(name)])"
    found = subprocess.run([sys.executable, "-c", taken, *models(), "resnet18"], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "['resnet18']"
