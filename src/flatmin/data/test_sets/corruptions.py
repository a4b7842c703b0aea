"""A source's own test images, corrupted here as CIFAR-10-C's were, from a seed.

The published constants at the same five severities; other random numbers than the official files have, and frost that
is made here instead of photographed. So numbers on it are near those on the official set, and are not those.
"""

from flatmin.data.test_set import Corruptions

TEST_SET = Corruptions(
    name="corruptions",
    title="{source}-C (generated)",
    source="",
    licence="that of the source",
    citation="D. Hendrycks and T. Dietterich. Benchmarking Neural Network Robustness to Common Corruptions and "
    "Perturbations. ICLR 2019",
)
