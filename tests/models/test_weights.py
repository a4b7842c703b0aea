"""Models that start from the weights of a file: what is kept, what is drawn anew, and what is refused."""

import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from flatmin.models.build import build
from flatmin.models.stem import stem_changes

CIFAR = {"num_classes": 10, "in_chans": 3, "img_size": 32}
OURS, TIMMS = "cifar_resnet8", "test_resnet"
LOADED = [OURS, TIMMS, "wrn16_4", "mlp"]


def saved(tmp_path: Path, name: str, **settings: object) -> tuple[nn.Module, Path]:
    """A model with weights of its own, and the file that holds them."""
    torch.manual_seed(7)
    model = build(name, **{**CIFAR, **settings})
    for tensor in [*model.buffers(), *(p.data for p in model.parameters() if p.dim() == 1)]:
        tensor.add_(1)
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    return model, file


def differing(first: nn.Module, second: nn.Module) -> set[str]:
    other = second.state_dict()
    return {name for name, value in first.state_dict().items() if not torch.equal(value, other[name])}


@pytest.mark.parametrize("name", LOADED)
def test_all_of_a_file_that_fits_is_taken(tmp_path: Path, name: str) -> None:
    model, file = saved(tmp_path, name)
    assert not differing(model, build(name, **CIFAR, weights=file))
    assert differing(model, build(name, **CIFAR))


@pytest.mark.parametrize("name", [OURS, TIMMS])
@pytest.mark.parametrize("classes", [3, 100])
def test_a_classifier_for_other_classes_is_drawn_anew(tmp_path: Path, name: str, classes: int) -> None:
    model, file = saved(tmp_path, name)
    started = build(name, **{**CIFAR, "num_classes": classes}, weights=file).eval()
    assert started(torch.zeros(2, 3, 32, 32)).shape == (2, classes)
    started.reset_classifier(10)
    assert differing(model, started) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("name", [OURS, TIMMS])
def test_grey_images_see_the_sum_over_colours(tmp_path: Path, name: str) -> None:
    """A grey image looks to the model as it did when it was a colour image of three equal channels."""
    model, file = saved(tmp_path, name)
    grey = build(name, **{**CIFAR, "in_chans": 1}, weights=file).eval()
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(images), model.eval()(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "other"), [(OURS, "cifar_resnet20"), (TIMMS, "resnet18"), ("wrn16_4", OURS)])
@pytest.mark.parametrize("classes", [10, 7])
def test_weights_of_another_model_are_refused(tmp_path: Path, name: str, other: str, classes: int) -> None:
    _, file = saved(tmp_path, name)
    with pytest.raises(ValueError, match=f"not the weights of '{other}'"):
        build(other, **{**CIFAR, "num_classes": classes}, weights=file)


@pytest.mark.parametrize("name", [OURS, TIMMS])
@pytest.mark.parametrize("classes", [10, 7])
def test_a_file_that_lacks_a_layer_is_refused(tmp_path: Path, name: str, classes: int) -> None:
    """Where the number of classes changes, timm itself would go on with the layer as drawn."""
    model, file = saved(tmp_path, name)
    lacking = {key: value for key, value in model.state_dict().items() if not key.startswith("layer2.0.bn1.")}
    save_file(lacking, file)
    with pytest.raises(ValueError, match=r"Missing key.*layer2\.0\.bn1\.weight"):
        build(name, **{**CIFAR, "num_classes": classes}, weights=file)


@pytest.mark.parametrize("classes", [10, 7])
def test_a_model_with_a_small_stem_goes_on_from_its_own_weights(tmp_path: Path, classes: int) -> None:
    model, file = saved(tmp_path, "resnet18", stem="cifar")
    started = build("resnet18", **{**CIFAR, "num_classes": classes}, stem="cifar", weights=file)
    started.reset_classifier(10)
    assert differing(model, started) == {"fc.weight", "fc.bias"}


def test_the_stem_is_rewritten_after_the_weights_are_there(tmp_path: Path) -> None:
    model, file = saved(tmp_path, "resnet18")
    small = build("resnet18", **CIFAR, stem="cifar", weights=file)
    assert stem_changes(small)[0].endswith("newly drawn")
    assert small.conv1.weight.shape[-1] == 3
    small.conv1 = model.conv1
    assert not differing(model, small)


def test_a_vision_transformer_s_positions_are_resized(tmp_path: Path) -> None:
    model, file = saved(tmp_path, "test_vit", args={"patch_size": 4})
    larger = build("test_vit", **{**CIFAR, "img_size": 64}, args={"patch_size": 4}, weights=file)
    assert larger.pos_embed.shape[1] == 1 + 256
    assert torch.equal(larger.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)


def test_anybody_s_timm_loads_a_file_into_our_models(tmp_path: Path) -> None:
    model, file = saved(tmp_path, OURS)
    overlay = {"file": str(file)}
    started = timm.create_model(OURS, pretrained=True, pretrained_cfg_overlay=overlay)
    assert not differing(model, started)
    other = timm.create_model(OURS, pretrained=True, num_classes=100, pretrained_cfg_overlay=overlay)
    assert torch.equal(other.conv1.weight, model.conv1.weight)
    features = timm.create_model(OURS, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay)
    assert torch.equal(features.conv1.weight, model.conv1.weight)


@pytest.mark.parametrize("name", [OURS, TIMMS, "mlp"])
@pytest.mark.parametrize("lacking", [("fc.weight", "fc.bias"), ("fc.weight",)])
def test_a_file_without_its_classifier_is_refused(tmp_path: Path, name: str, lacking: tuple[str, ...]) -> None:
    model, file = saved(tmp_path, name)
    save_file({k: v for k, v in model.state_dict().items() if k not in lacking}, file)
    with pytest.raises(ValueError, match=r"fc\.weight|without a classifier"):
        build(name, **CIFAR, weights=file)


@pytest.mark.parametrize("classes", [1000, 7])
def test_a_publisher_s_names_load_for_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    """timm renames layers after it has looked for the classifier under its own name."""
    torch.manual_seed(7)
    model = timm.create_model("convnext_atto")
    file = tmp_path / "weights.safetensors"
    save_file({_facebooks_name(name): value for name, value in model.state_dict().items()}, file)
    started = build("convnext_atto", **{**CIFAR, "num_classes": classes}, weights=file)
    assert {*differing(model, started)} == (set() if classes == 1000 else {"head.fc.weight", "head.fc.bias"})


def _facebooks_name(name: str) -> str:
    for ours, theirs in [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm", "norm"),
        (r"^head\.fc", "head"),
    ]:
        name = re.sub(ours, theirs, name)
    return name


def test_our_models_have_no_published_weights() -> None:
    with pytest.raises(ValueError, match=r"cifar_cnn has no pretrained weights.*'file'"):
        timm.create_model("cifar_cnn", pretrained=True)
