"""The matrices of shears, translations and rotations."""

from __future__ import annotations

import math

Matrix = tuple[float, float, float, float, float, float]


def sampling_matrix(name: str, magnitude: float, height: int, width: int) -> Matrix:
    """Return where a pixel of the result comes from: (x, y) -> (a x + b y + c, d x + e y + f).

    Places are in pixels from the image's centre, y downwards. Shears hold the top left corner in place, rotations the
    centre. The chain of float64 functions is torchvision's, because a pixel that comes from halfway between two depends
    on the last bit.

    Args:
        name: ``ShearX``, ``ShearY``, ``TranslateX``, ``TranslateY`` or ``Rotate``; of any other the matrix is that of
            the identity.
        magnitude: A slope, pixels (truncated to whole ones), or degrees counterclockwise.
        height: Of the image.
        width: Of the image.
    """
    match name:
        case "ShearX":
            slope = math.tan(_angle(magnitude))
            return 1.0, slope, slope * (height / 2), 0.0, 1.0, 0.0
        case "ShearY":
            angle = _angle(magnitude)
            slope, middle = math.sin(angle) / math.cos(angle), height / 2
            return 1.0, 0.0, 0.0, slope, 1.0, (slope * (width / 2) - middle) + middle
        case "TranslateX":
            return 1.0, 0.0, -float(int(magnitude)), 0.0, 1.0, 0.0
        case "TranslateY":
            return 1.0, 0.0, 0.0, 0.0, 1.0, -float(int(magnitude))
        case "Rotate":
            angle = math.radians(magnitude % 360)
            return math.cos(angle), -math.sin(angle), 0.0, math.sin(angle), math.cos(angle), 0.0
        case _:
            return 1.0, 0.0, 0.0, 0.0, 1.0, 0.0


def _angle(slope: float) -> float:
    return math.radians(math.degrees(math.atan(slope)))
