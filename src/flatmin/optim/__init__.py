"""Sharpness-aware optimizers: one step around any torch optimizer, and the ascents that make it SAM, ASAM, ...

The folder needs torch and the standard library alone, and imports itself relatively: it can be copied elsewhere.
"""

from .ascent import Ascent, NeighborhoodAscent, Point, option
from .norm_statistics import frozen_statistics
from .optimizers import ASAM, SAM
from .registry import load, names
from .step import SharpnessAware

__all__ = [
    "ASAM",
    "SAM",
    "Ascent",
    "NeighborhoodAscent",
    "Point",
    "SharpnessAware",
    "frozen_statistics",
    "load",
    "names",
    "option",
]
