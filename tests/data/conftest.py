"""Real CIFAR-10 where it is at hand, a small source everywhere, and no network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import pytest
from real_files import SHARED
from small_sources import toy_arrays

from flatmin.data.source import Source


@pytest.fixture(scope="session")
def cifar10_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the official ``cifar-10-batches-py``."""
    packed, unpack = SHARED / "mirror" / "packed", SHARED / "tools" / "unpack_cifar.py"
    if not (packed / "cifar10").is_dir() or not unpack.is_file():
        pytest.skip(f"no CIFAR-10 files under {SHARED} (set FLATMIN_TEST_SHARED)")
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, str(unpack), str(packed), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def toy_source() -> Source:
    """A source of random 2 x 6 x 6 images in three classes, without files."""
    return Source(
        name="toy",
        read=lambda folder: toy_arrays(),
        classes=("a", "b", "c"),
        image_shape=(2, 6, 6),
        split="ours",
        licence="none",
        citation="none",
    )


class NoNetwork:
    """An opener for a machine without a network; ``asked`` lists the addresses that were tried."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, request: Request, timeout: float) -> Source:
        self.asked.append(request.full_url)
        raise URLError("no route to host")


@pytest.fixture
def no_network() -> NoNetwork:
    return NoNetwork()
