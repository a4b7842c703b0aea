"""Networks that are timm's with arguments for small images: their counts, their maps, and what timm draws."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

import flatmin.models  # noqa: F401
from flatmin.models.size import parameter_count
from flatmin.models.stem import stem_changes


def mlp(features: int, hidden: int) -> int:
    return 2 * features * hidden + hidden + features


def vit_parameters(width: int, patches: int, classes: int) -> int:
    """Dosovitskiy et al. 2021, equations 1 to 4: 12 blocks on 4x4 patches and a class token."""
    embedding = 3 * 16 * width + width + width + (patches + 1) * width
    attention = 4 * (width * width + width)
    block = 2 * 2 * width + attention + mlp(width, 4 * width)
    return embedding + 12 * block + 2 * width + width * classes + classes


def mixer_parameters(width: int, patches: int, classes: int) -> int:
    """Tolstikhin et al. 2021, equation 1 and table 1: 8 blocks, D_S half and D_C four times the width."""
    block = 2 * 2 * width + mlp(patches, width // 2) + mlp(width, 4 * width)
    return 3 * 16 * width + width + 8 * block + 2 * width + width * classes + classes


def convnext_parameters(blocks: tuple[int, ...], widths: tuple[int, ...], classes: int) -> int:
    """Liu et al. 2022, figure 4, with a scale per channel that ends each block, and a 3x3 stem."""
    total = 9 * 3 * widths[0] + widths[0] + 2 * widths[0]
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        if stage > 0:
            before = widths[stage - 1]
            total += 2 * before + 4 * before * width + width
        total += count * (49 * width + width + 2 * width + mlp(width, 4 * width) + width)
    return total + 2 * widths[-1] + widths[-1] * classes + classes


@pytest.mark.parametrize(
    ("name", "exact", "formula"),
    [
        ("cifar_vit_tiny_patch4", 5_362_762, vit_parameters(192, 64, 10)),
        ("cifar_vit_small_patch4", 21_342_346, vit_parameters(384, 64, 10)),
        ("cifar_mixer_nano_patch4", 1_132_170, mixer_parameters(128, 64, 10)),
        ("cifar_mixer_s_patch4", 17_110_026, mixer_parameters(512, 64, 10)),
        ("cifar_convnext_atto", 3_376_890, convnext_parameters((2, 2, 6, 2), (40, 80, 160, 320), 10)),
        ("cifar_convnext_tiny", 27_825_802, convnext_parameters((3, 3, 9, 3), (96, 192, 384, 768), 10)),
    ],
)
def test_parameters_follow_from_the_papers(name: str, exact: int, formula: int) -> None:
    with torch.device("meta"):
        assert parameter_count(timm.create_model(name)) == exact == formula


@pytest.mark.parametrize(
    ("ours", "theirs", "exact"),
    [
        ("cifar_mobilenetv3_small_100", "mobilenet_v3_small", 1_528_106),
        ("cifar_mobilenetv3_large_100", "mobilenet_v3_large", 4_214_842),
    ],
)
def test_mobilenets_have_the_parameters_of_torchvisions(ours: str, theirs: str, exact: int) -> None:
    with torch.device("meta"):
        assert parameter_count(timm.create_model(ours)) == exact
        assert parameter_count(torchvision.models.get_model(theirs, num_classes=10)) == exact


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("convnext_atto", {"stem.0.weight"}),
        ("mobilenetv3_small_100", set()),
        ("mobilenetv3_large_100", set()),
    ],
)
def test_all_but_the_stem_is_what_timm_draws_for_the_same_seed(name: str, stem: set[str]) -> None:
    torch.manual_seed(0)
    native = timm.create_model(name, num_classes=10).state_dict()
    torch.manual_seed(0)
    model = timm.create_model(f"cifar_{name}")
    small = model.state_dict()
    assert small.keys() == native.keys()
    assert {key for key in native if not torch.equal(native[key], small[key])} == stem
    assert "stride 1" in stem_changes(model)[0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("cifar_vit_tiny_patch4", "vit_tiny_patch16_224"),
        ("cifar_vit_small_patch4", "vit_small_patch16_224"),
    ],
)
def test_a_vision_transformer_is_timms_with_other_patches(ours: str, theirs: str) -> None:
    with torch.device("meta"):
        small = timm.create_model(ours).state_dict()
        reference = timm.create_model(theirs, num_classes=10, img_size=32, patch_size=4).state_dict()
    assert {name: w.shape for name, w in small.items()} == {name: w.shape for name, w in reference.items()}


@pytest.mark.parametrize(
    ("name", "size", "features"),
    [
        ("cifar_vit_tiny_patch4", 32, (2, 65, 192)),
        ("cifar_vit_tiny_patch4", 64, (2, 257, 192)),
        ("cifar_mixer_nano_patch4", 32, (2, 64, 128)),
        ("cifar_mixer_nano_patch4", 8, (2, 4, 128)),
        ("cifar_convnext_atto", 32, (2, 320, 4, 4)),
        ("cifar_convnext_tiny", 64, (2, 768, 8, 8)),
        ("cifar_mobilenetv3_small_100", 32, (2, 576, 2, 2)),
        ("cifar_mobilenetv3_large_100", 64, (2, 960, 4, 4)),
    ],
)
def test_features_for_images_of_a_size(name: str, size: int, features: tuple[int, ...]) -> None:
    patches = {"img_size": size} if "patch" in name else {}
    with torch.device("meta"):
        model = timm.create_model(name, **patches)
        assert model.forward_features(torch.zeros(2, 3, size, size)).shape == features


@pytest.mark.parametrize("name", ["cifar_vit_tiny_patch4", "cifar_mixer_nano_patch4"])
def test_a_network_of_patches_refuses_images_of_another_size(name: str) -> None:
    with torch.device("meta"), pytest.raises(AssertionError, match=r"28.*doesn't match model \(32\)"):
        timm.create_model(name)(torch.zeros(2, 3, 28, 28))


def test_initialisation_of_a_vision_transformer() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cifar_vit_tiny_patch4")
    for layer in (model.blocks[3].attn.qkv, model.blocks[3].mlp.fc1, model.head):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert (layer.bias == 0).all()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.cls_token.abs().max() < 1e-5


def test_initialisation_of_a_mixer() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cifar_mixer_nano_patch4")
    assert not model(torch.randn(2, 3, 32, 32)).any()
    assert model.stem.proj.weight.std().item() == pytest.approx(48**-0.5, rel=0.05)
    # uniform within sqrt(6 / (fan_in + fan_out)), of deviation sqrt(2 / (fan_in + fan_out))
    assert model.blocks[0].mlp_channels.fc1.weight.std().item() == pytest.approx((2 / (128 + 512)) ** 0.5, rel=0.05)


def test_initialisation_of_a_convnext_and_its_stem() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cifar_convnext_atto")
    assert model.stem[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.stages[2].blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (model.stages[2].blocks[0].gamma == 1e-6).all()


@pytest.mark.parametrize("name", ["cifar_mobilenetv3_small_100", "cifar_convnext_atto", "cifar_vit_tiny_patch4"])
def test_weights_come_back_from_a_file_for_another_number_of_classes(name: str, tmp_path: Path) -> None:
    trained = timm.create_model(name).state_dict()
    save_file(trained, tmp_path / "weights.safetensors")
    file = {"file": str(tmp_path / "weights.safetensors")}
    model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=file, num_classes=3)
    assert model.get_classifier().out_features == 3
    restored = model.state_dict()
    differing = {key for key in trained if not torch.equal(trained[key], restored[key])}
    assert {key.rpartition(".")[0] for key in differing} <= {model.default_cfg["classifier"]}
