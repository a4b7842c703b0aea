"""Fashion-MNIST: 28 x 28 grey images of clothes, 60,000 for training and 10,000 for testing.

Kept as the four uncompressed IDX files: distributions compress the same files differently.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flatmin.data.idx import read_idx
from flatmin.data.published import Archive, Member
from flatmin.data.source import Arrays, Source

_HOSTS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
)


def _archive(name: str, *, md5: str, size: int, debian_md5: str, content_md5: str, content_size: int) -> Archive:
    return Archive(
        name=f"{name}.gz",
        urls=tuple(f"{host}/{name}.gz" for host in _HOSTS),
        checksum=md5,
        size=size,
        members=(Member(name, content_md5, content_size),),
        repackaged=(debian_md5,),  # Debian's dataset-fashion-mnist, without name and date in the gzip header
    )


def read(folder: Path) -> Arrays:
    """Read the four IDX files of ``folder``."""

    def part(prefix: str) -> tuple[np.ndarray, np.ndarray]:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte", ndim=3)
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte", ndim=1)
        return images[:, None], labels.astype(np.int64)

    return Arrays(*part("train"), *part("t10k"))


SOURCE = Source(
    train_images=60_000,
    name="fashion_mnist",
    title="Fashion-MNIST",
    read=read,
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    image_shape=(1, 28, 28),
    split="official: 60,000 training and 10,000 test images",
    licence="MIT",
    citation="H. Xiao, K. Rasul and R. Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine "
    "Learning Algorithms. arXiv:1708.07747, 2017",
    archives=(
        _archive(
            "train-images-idx3-ubyte",
            md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            size=26_421_880,
            debian_md5="cf8536b0aa1a6ac5fa3f23001093305c",
            content_md5="f4a8712d7a061bf5bd6d2ca38dc4d50a",
            content_size=47_040_016,
        ),
        _archive(
            "train-labels-idx1-ubyte",
            md5="25c81989df183df01b3e8a0aad5dffbe",
            size=29_515,
            debian_md5="10bea18fdb374794d4bb42e356e600c9",
            content_md5="9018921c3c673c538a1fc5bad174d6f9",
            content_size=60_008,
        ),
        _archive(
            "t10k-images-idx3-ubyte",
            md5="bef4ecab320f06d8554ea6380940ec79",
            size=4_422_102,
            debian_md5="f78720b4224f21cce2f2ccf2d7a94c9a",
            content_md5="8181f5470baa50b63fa0f6fddb340f0a",
            content_size=7_840_016,
        ),
        _archive(
            "t10k-labels-idx1-ubyte",
            md5="bb300cfdad3c16e7a12a480ee83cd310",
            size=5_148,
            debian_md5="0d30e22e447f3c33dab9ed536400ac01",
            content_md5="15d484375f8d13e6eb1aabb0c3f46965",
            content_size=10_008,
        ),
    ),
    # Boot -> sneaker, sneaker -> sandal, pullover -> shirt, coat <-> dress: Zhang and Sabuncu, Generalized Cross
    # Entropy Loss for Training Deep Neural Networks with Noisy Labels, NeurIPS 2018
    usual_pairs={9: 7, 7: 5, 2: 6, 4: 3, 3: 4},
    layouts=("FashionMNIST/raw", "fashion-mnist"),
)
