"""How many augmented images a second come out of flatmin's batches, and out of a torch DataLoader.

    python benchmarks/data.py
    python benchmarks/data.py --cifar FOLDER --rounds 30 --json data.json

FOLDER holds CIFAR-10's official python files (``data_batch_1`` and so on, or the folder ``cifar-10-batches-py`` in
which they are); without it the images are random.

Compared are, for crop + flip + cutout of 16 and for crop + flip + AutoAugment's CIFAR-10 policy:

- flatmin: a batch of uint8 images is taken from the training images, and augmented and normalised as a whole;
- PIL: torchvision's transforms of single PIL images, in a DataLoader with num_workers=0;
- uint8: torchvision's v2 transforms of single uint8 tensors, likewise.

All use one thread and end in float32 batches [n, 3, 32, 32], normalised by the same mean and deviation. Every round
takes --batches batches from every side, each round beginning with the next one; a ratio is that of two times of one
round. Shown are medians over rounds, and in brackets the interval that holds the true median with 95 % confidence
(`optimizer_step.Median`), of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from optimizer_step import Lap, Median, Seconds, cpu_stopwatch, print_table, processor, timed
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from flatmin.data.augmentation.batch import augmented_batch
from flatmin.data.batches import epoch_order, index_batches, normalise
from flatmin.data.loading import Split
from flatmin.settings import Augmentation

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
SIDE = 16
OURS = "flatmin"

WORK: dict[str, tuple[Augmentation, float]] = {
    "crop + flip + cutout": (Augmentation(flip=True, pad=4, padding="zero", cutout=SIDE), 10.0),
    "crop + flip + AutoAugment": (Augmentation(flip=True, pad=4, padding="zero", policy="autoaugment"), 5.0),
}
"""What is compared, and the ratio to the DataLoader with PIL images that is asked of flatmin."""

Epoch = Callable[[], object]


class Images(Dataset[tuple[Tensor, int]]):
    """Images in memory, transformed one at a time."""

    def __init__(self, images: Sequence[Any], labels: Sequence[int], transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image, transformed, and its label."""
        return self.transform(self.images[index]), self.labels[index]


def cut_out(image: Tensor) -> Tensor:
    """Set a square to zero around a pixel of one normalised image."""
    height, width = image.shape[1:]
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    image[:, max(0, row - SIDE // 2) : row + SIDE // 2, max(0, column - SIDE // 2) : column + SIDE // 2] = 0
    return image


def of_pil(augmentation: Augmentation) -> Callable[[Any], Tensor]:
    """The transforms of torchvision for a PIL image."""
    transforms = torchvision.transforms
    steps = [transforms.RandomCrop(32, padding=augmentation.pad), transforms.RandomHorizontalFlip()]
    if augmentation.policy == "autoaugment":
        steps.append(transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10))
    steps += [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return transforms.Compose([*steps, cut_out] if augmentation.cutout else steps)


def of_tensors(augmentation: Augmentation) -> Callable[[Any], Tensor]:
    """The v2 transforms of torchvision for a uint8 tensor."""
    steps = [v2.RandomCrop(32, padding=augmentation.pad), v2.RandomHorizontalFlip()]
    if augmentation.policy == "autoaugment":
        steps.append(v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10))
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose([*steps, cut_out] if augmentation.cutout else steps)


def our_epoch(images: Tensor, labels: Tensor, augmentation: Augmentation, batch: int, count: int) -> Epoch:
    """``count`` batches as the training loop makes them."""
    split = Split(images, None, labels, labels)
    to_inputs = partial(normalise, mean=torch.tensor(MEAN), std=torch.tensor(STD))
    generator = torch.Generator().manual_seed(0)

    def epoch() -> None:
        order = epoch_order(len(split), generator)[: batch * count]
        for indices in index_batches(order, batch):
            augmented_batch(split.take(indices), labels[indices], augmentation, generator, to_inputs)

    return epoch


def their_epoch(images: Dataset[Any], batch: int, count: int) -> Epoch:
    """``count`` batches of a DataLoader."""
    # The sampler draws all of an epoch's order, as ours does
    sampler = torch.utils.data.RandomSampler(images, num_samples=batch * count)  # type: ignore[arg-type]
    loader = DataLoader(images, batch, sampler=sampler, num_workers=0)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def measured(images: Tensor, labels: Tensor, batch: int, arguments: argparse.Namespace) -> dict[str, Seconds]:
    """Time every side of every work; seconds per image."""
    pictures = [Image.fromarray(picture) for picture in images.permute(0, 2, 3, 1).numpy()]
    numbers = labels.tolist()
    count = arguments.batches
    laps: dict[str, Lap] = {}
    for work, (augmentation, _) in WORK.items():
        sides = {
            OURS: our_epoch(images, labels, augmentation, batch, count),
            "PIL": their_epoch(Images(pictures, numbers, of_pil(augmentation)), batch, count),
            "uint8": their_epoch(Images(images, numbers, of_tensors(augmentation)), batch, count),
        }
        laps |= {f"{work}/{side}": Lap(epoch, steps=batch * count) for side, epoch in sides.items()}
    for lap in laps.values():
        lap.work()
    seconds = timed(laps, arguments.rounds, cpu_stopwatch, f"batches of {batch}")
    return {
        work: {key.rpartition("/")[2]: times for key, times in seconds.items() if key.startswith(f"{work}/")}
        for work in WORK
    }


def table(seconds: dict[str, Seconds]) -> list[list[str]]:
    """Rows of images a second, and ratios of flatmin to the others."""
    rows = [["augmentation", "pipeline", "images per second", "flatmin is so many times as fast", "asked for"]]
    for work, sides in seconds.items():
        for side, times in sides.items():
            rate = Median.of([1 / second for second in times])
            rows.append(
                [
                    work,
                    side,
                    f"{rate.value:,.0f} [{rate.low:,.0f}, {rate.high:,.0f}]",
                    "" if side == OURS else in_words(Median.of_ratios(times, sides[OURS])),
                    f"{WORK[work][1]:.0f}" if side == "PIL" else "",
                ]
            )
    return rows


def in_words(ratio: Median) -> str:
    """A ratio with one decimal, and its interval."""
    return f"{ratio.value:.1f} [{ratio.low:.1f}, {ratio.high:.1f}]"


def cifar(folder: Path) -> tuple[Tensor, Tensor]:
    """The first of CIFAR-10's training files: 10,000 images, uint8 [n, 3, 32, 32], and their labels."""
    files = sorted(folder.rglob("data_batch_1"))
    if not files:
        raise SystemExit(
            f"{folder} has no file data_batch_1: unpack cifar-10-python.tar.gz there, or leave --cifar out"
        )
    content = pickle.loads(files[0].read_bytes(), encoding="bytes")
    pixels = torch.from_numpy(np.array(content[b"data"])).view(-1, 3, 32, 32)
    return pixels, torch.tensor(content[b"labels"])


def random_images(count: int = 10_000) -> tuple[Tensor, Tensor]:
    """Noise, and labels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(10, (count,), generator=generator)


def parsed(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, metavar="FOLDER", help="CIFAR-10's official files (default noise)")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 256], help="images per batch (default 128 256)")
    parser.add_argument("--batches", type=int, default=4, help="batches per round and side (default 4)")
    parser.add_argument("--rounds", type=int, default=20, help="times every side is timed (default 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the seconds per image of every round there")
    arguments = parser.parse_args(command)
    if arguments.rounds < 1 or arguments.batches < 1 or min(arguments.batch) < 1:
        parser.error("--rounds, --batches and --batch must be at least 1")
    if max(arguments.batch) * arguments.batches > 10_000:
        parser.error(f"--batch {max(arguments.batch)} --batches {arguments.batches}: there are 10,000 images")
    return arguments


def main() -> None:
    """Measure, print, and save."""
    arguments = parsed()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = random_images() if arguments.cifar is None else cifar(arguments.cifar)
    setting = {
        "machine": processor(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "Pillow": Image.__version__,
        "threads": torch.get_num_threads(),
        "images": "random" if arguments.cifar is None else "CIFAR-10",
        "batches per round": arguments.batches,
        "rounds": arguments.rounds,
    }
    print(", ".join(f"{name}: {value}" for name, value in setting.items()))
    results: dict[str, Any] = {"setting": setting, "seconds per image": {}}
    for batch in arguments.batch:
        seconds = results["seconds per image"][batch] = measured(images, labels, batch, arguments)
        print_table(f"batches of {batch}", table(seconds))
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
