"""The ascents, one file each: every module of this package holds the one ascent that bears its name."""

from ..registry import load, names

__all__ = ["load", "names"]
