"""CIFAR-10H: which classes about fifty people saw in each of CIFAR-10's 10,000 test images."""

from __future__ import annotations

from flatmin.data.human_probabilities import read_human_probabilities
from flatmin.data.published import plain_file
from flatmin.data.test_set import HumanJudgements

FILE = "cifar10h-probs.npy"
_COMMIT = "597cbc5f07266c9405b830ee4a53463539124c4f"

TEST_SET = HumanJudgements(
    name="cifar10_h",
    title="CIFAR-10H",
    source="cifar10",
    read=lambda folder: read_human_probabilities(folder / FILE),
    licence="CC BY-NC-SA 4.0: not for commercial use",
    citation="J. C. Peterson, R. M. Battleday, T. L. Griffiths and O. Russakovsky. Human Uncertainty Makes "
    "Classification More Robust. ICCV 2019",
    archives=(
        plain_file(
            FILE,
            (
                f"https://raw.githubusercontent.com/jcpeterson/cifar-10h/{_COMMIT}/data/{FILE}",
                f"https://github.com/jcpeterson/cifar-10h/raw/master/data/{FILE}",
            ),
            checksum="7b41f73eee90fdefc73bfc820ab29ba8",
            size=None,  # that of an array of 800,000 bytes, and a header
            limit=2**20,
        ),
    ),
    layouts=("cifar-10h/data",),
)
