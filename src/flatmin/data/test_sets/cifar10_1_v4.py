"""CIFAR-10.1 v4: 2,021 new test images for CIFAR-10, the version of the authors' first report; classes not balanced."""

from flatmin.data.test_sets._cifar10_1 import cifar10_1

TEST_SET = cifar10_1(
    "cifar10_1_v4",
    "v4",
    count=2021,
    data=("5aaedc268df8f4cffca2ac0cf9e608ae1897a8cddb630c7a850a2ea8f6558e75", 6_208_640),
    labels=("1f9544300ded199539b6662364ce7fe6c2e1ea9f87408f06db4b1a6184cffb18", 8_212),
)
