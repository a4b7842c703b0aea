"""Sharpness-aware optimizers: one step around any torch optimizer, and the ascents that make it SAM, ASAM, ...

The folder needs torch and the standard library alone, and imports itself relatively: it can be copied elsewhere.
"""

from .ascent import Ascent, NeighborhoodAscent, Point
from .cost import Cost, cost_of
from .displacement import Displacement
from .norm_statistics import frozen_statistics
from .optimizers import ASAM, ESAM, GSAM, SAM, FisherSAM, LookSAM
from .options import option
from .regime import Regime
from .registry import Method, configured, load, names
from .rho_schedule import RhoSchedule, RhoScheduler
from .shaken import true_gradient
from .step import SharpnessAware

__all__ = [
    "ASAM",
    "ESAM",
    "GSAM",
    "SAM",
    "Ascent",
    "Cost",
    "Displacement",
    "FisherSAM",
    "LookSAM",
    "Method",
    "NeighborhoodAscent",
    "Point",
    "Regime",
    "RhoSchedule",
    "RhoScheduler",
    "SharpnessAware",
    "configured",
    "cost_of",
    "frozen_statistics",
    "load",
    "names",
    "option",
    "true_gradient",
]
