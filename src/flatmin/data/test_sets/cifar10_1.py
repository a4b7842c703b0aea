"""CIFAR-10.1 v6: 2,000 new test images for CIFAR-10, 200 per class; the version that the authors recommend."""

from flatmin.data.test_sets._cifar10_1 import cifar10_1

TEST_SET = cifar10_1(
    "cifar10_1",
    "v6",
    count=2000,
    data=("2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6", 6_144_128),
    labels=("ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448", 8_128),
)
