"""flatmin: the reproducible study of Sharpness-Aware Minimization."""

__version__ = "0.1.0"
