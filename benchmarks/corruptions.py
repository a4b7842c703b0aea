"""How long the corruption suite takes, whether it gives the same bits again, and what it looks like.

    python benchmarks/corruptions.py --cifar data/cifar-10-batches-py --workers 2
    python benchmarks/corruptions.py --count 1000 --size 64 --only snow frost
    python benchmarks/corruptions.py --cifar data/cifar-10-batches-py --sheet docs/corruptions.png

Every corruption is applied at every severity to the same images: CIFAR-10's test images with --cifar, random ones
without. The table has the CPU seconds of each set, start-up of the workers left out; the first set that a worker makes
of a corruption includes what is made once (imports, textures of frost). The last lines give the sum, the time on the
clock, and a SHA-256 over all pixels in the table's order. It depends on images and seed, not on the workers: compare it
with that of a second run, or of one with another number of workers. Other versions of numpy, scipy, torch or Pillow,
or another kind of processor, may round another way.

With --sheet, the contact sheet is written too: a row for each corruption, first the clean images, then severities 1
to 5.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import scipy
import torch
from PIL import Image, ImageDraw, ImageFont

from flatmin.data.corruptions.corruption import Images
from flatmin.data.corruptions.registry import EXTRA, MAIN, load
from flatmin.data.corruptions.suite import SEVERITIES, corrupt, corrupted_chunks
from flatmin.data.sources import cifar10
from flatmin.randomness import numpy_generator

SHOWN = (4, 1)
"""The images of the contact sheet: in CIFAR-10's test set a frog and a ship, one dark and one light."""

ENLARGED = 3
LABELS, HEADER, GAP = 168, 30, 6
"""Of the contact sheet, in pixels: the column of names, the row of severities, the space between cells."""


class Task(NamedTuple):
    """One corrupted set."""

    name: str
    severity: int
    seed: int


class Made(NamedTuple):
    """What it took to make a set, and its digest."""

    seconds: float
    digest: bytes


# what a worker does


def made(images: Images, tasks: Sequence[Task]) -> list[Made]:
    """Make sets with one thread, chunk by chunk; only the making is timed, not the digest."""
    torch.set_num_threads(1)
    return [one_made(images, task) for task in tasks]


def one_made(images: Images, task: Task) -> Made:
    """Make one set."""
    digest, seconds = hashlib.sha256(), 0.0
    start = time.process_time()
    for chunk in corrupted_chunks(images, *task):
        seconds += time.process_time() - start
        digest.update(np.ascontiguousarray(chunk))
        start = time.process_time()
    return Made(seconds, digest.digest())


def all_made(images: Images, tasks: Sequence[Task], workers: int) -> list[Made]:
    """Make all sets, in so many processes that share the tasks evenly."""
    if workers == 1:
        return made(images, tasks)
    results: list[Made] = [Made(0.0, b"")] * len(tasks)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        shares = pool.starmap(made, [(images, tasks[first::workers]) for first in range(workers)])
    for first, share in enumerate(shares):
        results[first::workers] = share
    return results


# what is shown


def print_table(names: Sequence[str], results: Sequence[Made]) -> None:
    """Print the seconds: a row for each corruption, a column for each severity."""
    print(f"{'CPU seconds at severity':24}" + "".join(f"{severity:8}" for severity in SEVERITIES))
    for number, name in enumerate(names):
        row = results[number * len(SEVERITIES) :][: len(SEVERITIES)]
        print(f"{name:24}" + "".join(f"{one.seconds:8.2f}" for one in row))


def sheet(images: Images, names: Sequence[str], seed: int) -> Image.Image:
    """Draw the contact sheet of those two images (or however many are given)."""
    cells = [[images, *(corrupt(images, name, severity, seed) for severity in SEVERITIES)] for name in names]
    pictures = [[picture(cell) for cell in row] for row in cells]
    width, height = (side + GAP for side in pictures[0][0].size)
    canvas = Image.new("RGB", (LABELS + width * len(pictures[0]), HEADER + height * len(names)), "white")
    draw = ImageDraw.Draw(canvas)
    bold, plain = (ImageFont.load_default(size) for size in (17, 13))
    for column, title in enumerate(["clean", *(f"severity {severity}" for severity in SEVERITIES)]):
        draw.text((LABELS + (column + 0.5) * width - GAP / 2, HEADER / 2), title, "black", bold, anchor="mm")
    for row, name in enumerate(names):
        middle = HEADER + (row + 0.5) * height - GAP / 2
        draw.text((8, middle - 2), load(name).title, "black", bold, anchor="ld")
        draw.text((8, middle + 4), load(name).family, "dimgrey", plain, anchor="la")
        for column, cell in enumerate(pictures[row]):
            canvas.paste(cell, (LABELS + column * width, HEADER + row * height))
    return canvas


def picture(images: Images) -> Image.Image:
    """Images side by side, enlarged without smoothing."""
    strip = Image.fromarray(np.concatenate(list(np.moveaxis(images, 1, -1)), axis=1))
    return strip.resize((strip.width * ENLARGED, strip.height * ENLARGED), Image.Resampling.NEAREST)


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
    parser.add_argument("--cifar", type=Path, metavar="FOLDER", help="the official cifar-10-batches-py, unpacked")
    parser.add_argument("--count", type=int, default=10_000, help="images to corrupt, from the first (default 10000)")
    parser.add_argument("--size", type=int, default=32, help="side of random images (default 32)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=MAIN + EXTRA,
        default=list(MAIN + EXTRA),
        metavar="NAME",
        help=f"any of {', '.join(MAIN + EXTRA)} (default all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the corruptions (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each (default 1)")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write the contact sheet there, as PNG")
    arguments = parser.parse_args(command)
    if arguments.cifar is not None and not (arguments.cifar / "test_batch").is_file():
        parser.error(f"--cifar {arguments.cifar}: there is no test_batch in it; name the folder that holds the batches")
    if arguments.count <= max(SHOWN):
        parser.error(f"--count {arguments.count}: it must be at least {max(SHOWN) + 1}, for the contact sheet's images")
    if arguments.size < 8:
        parser.error(f"--size {arguments.size}: it must be at least 8")
    if arguments.workers < 1:
        parser.error(f"--workers {arguments.workers}: it must be at least 1")
    return arguments


def clean_images(arguments: argparse.Namespace) -> Images:
    """The images to corrupt."""
    if arguments.cifar is not None:
        return cifar10.read(arguments.cifar).test_images[: arguments.count]
    shape = (arguments.count, 3, arguments.size, arguments.size)
    return numpy_generator(0, "benchmark-images").integers(0, 256, shape, dtype=np.uint8)


def main() -> None:
    """Measure, print, and draw."""
    arguments = parsed()
    images = clean_images(arguments)
    tasks = [Task(name, severity, arguments.seed) for name in arguments.only for severity in SEVERITIES]
    print(f"machine: {processor()}, workers: {arguments.workers}, images: {'x'.join(map(str, images.shape))}")
    modules = {"numpy": np, "scipy": scipy, "torch": torch, "Pillow": PIL}
    print(", ".join(f"{name}: {module.__version__}" for name, module in modules.items()) + "\n")
    start = time.perf_counter()
    results = all_made(images, tasks, arguments.workers)
    clock = time.perf_counter() - start
    print_table(arguments.only, results)
    total = sum(one.seconds for one in results)
    print(
        f"\n{len(results)} sets: {total:.1f} CPU seconds, {total / len(results):.2f} per set, {clock:.1f} on the clock"
    )
    print(f"SHA-256: {hashlib.sha256(b''.join(one.digest for one in results)).hexdigest()}")
    if arguments.sheet is not None:
        sheet(images[list(SHOWN)], arguments.only, arguments.seed).save(arguments.sheet, optimize=True)
        print(f"contact sheet: {arguments.sheet}")


if __name__ == "__main__":
    main()
