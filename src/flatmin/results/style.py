"""How figures look: one colour, marker and line per method everywhere, and svg text that is the same every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

INK = "#22272e"
"""Text and axes. The report replaces it by the page's own text colour."""

GRID = "#d5d9de"
"""Grid lines; replaced likewise."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c46f9f", "#b07a00", "#3a93cc", "#7f6a00", "#80858e")
"""Okabe and Ito's palette, which the common kinds of colour blindness keep apart, ordered by contrast.

Its yellow, sky blue and pink are darkened, so that every colour has a contrast of 3 on the page's light and dark paper.
"""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
"""A number of shapes that shares no factor with the number of colours: 88 methods look different."""

LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (2.2, 1)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (1, 1.5)),
)

RC: Any = {
    "svg.hashsalt": "flatmin",  # ids in the svg are hashes with this salt instead of random
    "svg.fonttype": "path",  # glyphs as outlines: the same on a machine without the font
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn: distinguishable by colour, and without colour by marker and line."""

    colour: str
    marker: str
    line: Any


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """One look per method, by its position in the study."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)])
        for i, name in enumerate(methods)
    }


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of the given size in inches, in this project's style, without pyplot's global state."""
    with mpl.rc_context(rc=RC):
        yield Figure(figsize=(width, height), layout="constrained")


def svg_text(figure: Figure, title: str, description: str) -> str:
    """Render to svg: no date, no version, ids that depend on the content alone, with a title for screen readers."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    body = buffer.getvalue()
    body = body[body.index("<svg") :]
    labelled = f"<title>{_escape(title)}</title>\n <desc>{_escape(description)}</desc>"
    body = re.sub(r"<svg([^>]*)>", rf'<svg\1 role="img" aria-label="{_escape(title)}">\n {labelled}', body, count=1)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + "\n".join(line.rstrip() for line in body.splitlines()) + "\n"


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` in [0, 1] (WCAG 2.1): from it follow contrast and what is left in grey."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
