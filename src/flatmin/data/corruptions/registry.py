"""The corruptions that there are: the modules of this folder."""

from __future__ import annotations

from flatmin.data.corruptions.corruption import Corruption
from flatmin.data.registry import Registry

MAIN = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The fifteen that the mean corruption error is over, in the published order."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The four that the authors keep for validation."""

_CORRUPTIONS = Registry(
    "flatmin.data.corruptions",
    "corruption",
    "CORRUPTION",
    Corruption,
    others=frozenset({"corruption", "registry", "suite"}),
)

names, load = _CORRUPTIONS.names, _CORRUPTIONS.load
