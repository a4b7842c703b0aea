"""The 1,797 handwritten digits that scikit-learn carries: real images without a download.

8 x 8 pixels with values 0..16. A value v becomes the uint8 (255 v + 8) // 16, the nearest to 255 v / 16, so that 16 is
255. The images have no official division; ours is drawn once, stratified, from a generator of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flatmin.data.errors import DataError
from flatmin.data.manifest import content_hash
from flatmin.data.source import Arrays, Source
from flatmin.data.stratified import stratified_choice
from flatmin.randomness import numpy_generator

_TEST = 600
_CONTENT = "b613c02c170b7d44f0f5030fe6ca9a21ea359d7cf615c320a20da7bd4880be78"


def read(folder: Path) -> Arrays:
    """Read the digits from the installed scikit-learn; ``folder`` is not used.

    Raises:
        DataError: scikit-learn carries other digits than the ones that this source is made of.
    """
    from sklearn.datasets import load_digits  # slow to import, and needed nowhere else

    digits = load_digits()
    values = digits.images.astype(np.int64)
    images = ((255 * values + 8) // 16).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    if content_hash({"images": images, "labels": labels}) != _CONTENT:
        raise DataError(
            "the installed scikit-learn carries other digits than those that the source 'digits' is made of",
            "Install the scikit-learn version of requirements.lock.",
        )
    keys = numpy_generator(0, "digits", "test").random(len(labels))
    test, train = stratified_choice(labels, _TEST, 10, keys, purpose="the test part of digits")
    test.sort()
    train.sort()
    return Arrays(images[train], labels[train], images[test], labels[test])


SOURCE = Source(
    train_images=1_197,
    name="digits",
    title="Digits",
    read=read,
    classes=tuple("0123456789"),
    image_shape=(1, 8, 8),
    split="none is official: 600 test images, stratified, by flatmin's generator (seed 0, 'digits', 'test')",
    licence="CC BY 4.0 (UCI Machine Learning Repository)",
    citation="E. Alpaydin and C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, "
    "1998. doi:10.24432/C50P49",
    # As for MNIST in Patrini et al., Making Deep Neural Networks Robust to Label Noise, CVPR 2017
    usual_pairs={2: 7, 3: 8, 5: 6, 6: 5, 7: 1},
)
