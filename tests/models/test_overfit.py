"""One network of each family learns 256 images of CIFAR-10 by heart in 200 steps.

A wrong gradient, a shortcut that does not carry, a branch that nobody adds or an initialisation that is off by an order
shows here and in no count of parameters.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from small_networks import SMALL_NETWORKS
from torch import Tensor, nn
from torch.nn import functional

import flatmin.models  # noqa: F401
from flatmin.data.batches import epoch_order, index_batches, normalise
from flatmin.models.registration import CIFAR10_MEAN, CIFAR10_STD

# as tests/data/real_files.py has it
SHARED = Path(os.environ.get("FLATMIN_TEST_SHARED", Path(__file__).parents[3] / "shared"))

IMAGES, STEPS = 256, 200


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum 0.9, or AdamW, without weight decay; ``lr`` falls to zero along a cosine."""

    optimizer: str
    lr: float
    batch_size: int = 64

    def make(self, model: nn.Module) -> torch.optim.Optimizer:
        if self.optimizer == "sgd":
            return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9, nesterov=True)
        return torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=0.0)


RECIPES = {
    "cifar_cnn": Recipe("sgd", 0.05),
    "cifar_convnext_atto": Recipe("adamw", 1e-3),
    "cifar_densenet_bc100_12": Recipe("sgd", 0.2),
    "cifar_mixer_nano_patch4": Recipe("adamw", 1e-3),
    "cifar_mlp": Recipe("sgd", 0.05),
    "cifar_mobilenetv3_small_100": Recipe("adamw", 1e-3),
    "cifar_preact_resnet18": Recipe("sgd", 0.05),
    "cifar_pyramidnet110_a270": Recipe("sgd", 0.05),
    # shaken branches regularise: in 50 epochs they learn six images of seven, in 100 all
    "cifar_pyramidnet110_a270_sd": Recipe("adamw", 3e-3, batch_size=128),
    "cifar_resnet18": Recipe("adamw", 1e-3),
    "cifar_resnet20": Recipe("sgd", 0.05),
    "cifar_resnext29_32x4d": Recipe("sgd", 0.05),
    "cifar_shake_shake26_2x32d": Recipe("adamw", 3e-3, batch_size=128),
    "cifar_vgg16_bn": Recipe("sgd", 0.05),
    "cifar_vit_tiny_patch4": Recipe("adamw", 5e-4),
    "cifar_wrn16_4": Recipe("sgd", 0.05),
}


@pytest.fixture(scope="module")
def cifar10() -> tuple[Tensor, Tensor]:
    """The first images of CIFAR-10's training set, normalised, and their labels."""
    folder = SHARED / "mirror" / "packed" / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"no CIFAR-10 images at {folder} (set FLATMIN_TEST_SHARED)")
    mosaic = np.asarray(Image.open(folder / "train_00.webp").convert("RGB")).reshape(25, 32, 40, 32, 3)
    images = torch.from_numpy(mosaic.transpose(0, 2, 4, 1, 3).reshape(1000, 3, 32, 32)[:IMAGES].copy())
    labels = torch.from_numpy(np.load(folder / "labels.npz")["train_labels"][:IMAGES].astype(np.int64))
    mean, std = torch.tensor(CIFAR10_MEAN), torch.tensor(CIFAR10_STD)
    return normalise(images, mean, std, memory_format=torch.channels_last), labels


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_200_steps_learn_256_images_by_heart(name: str, cifar10: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL_NETWORKS[name]).to(memory_format=torch.channels_last)
    train(model, RECIPES[name], *cifar10)
    assert number_right(model, *cifar10) == IMAGES


def train(model: nn.Module, recipe: Recipe, images: Tensor, labels: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = recipe.make(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS * recipe.batch_size // IMAGES):
        for batch in index_batches(epoch_order(IMAGES, generator), recipe.batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def number_right(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Count in evaluation mode: what a network has learnt, without the noise of shaken branches.

    Batch norms do not lag behind, as the weights have come to rest with the learning rate.
    """
    return int((model.eval()(images).argmax(1) == labels).sum())
