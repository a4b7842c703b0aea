"""Numbers and names as text, in one place, so that every output prints a number the same way."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from flatmin.results.failures import Difference
from flatmin.results.statistics import ALPHA, Interval

TITLES = {
    "sgd": "SGD",
    "sam": "SAM",
    "asam": "ASAM",
    "gsam": "GSAM",
    "esam": "ESAM",
    "looksam": "LookSAM",
    "fisher": "Fisher-SAM",
    "adam": "Adam",
    "adamw": "AdamW",
    "random": "random perturbation",
}
"""How the names of methods are written in a sentence."""


def count(number: int, noun: str) -> str:
    """ "1 seed", "5 seeds"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def signed(value: float, decimals: int = 2) -> str:
    """A signed number."""
    return "n/a" if math.isnan(value) else f"{value:+.{decimals}f}"


def decimals_of(interval: Interval) -> int:
    """Decimals for a mean and both ends of its interval: two, or as many as show the half-width.

    Without a half-width, as many as show the mean.
    """
    known = not math.isnan(interval.half_width) and interval.half_width > 0
    size = interval.half_width if known else abs(interval.mean)
    return 2 if not size or math.isnan(size) else min(9, max(2, -math.floor(math.log10(size)) + (not known)))


def p_value(p: float) -> str:
    """A p-value: "< 0.001", else two significant digits."""
    return "< 0.001" if p < 0.001 else f"{p:#.2g}"


def p_text(p: float) -> str:
    """ "p < 0.001", "p = 0.039"."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def interval_words(interval: Interval) -> str:
    """ "95% interval +0.51 to +1.13, 5 seeds": the ends of a difference's interval, and its seeds."""
    seeds = count(interval.n, "seed")
    if math.isnan(interval.half_width):
        return f"{seeds}, no interval"
    digits = decimals_of(interval)
    return f"95% interval {signed(interval.low, digits)} to {signed(interval.high, digits)}, {seeds}"


def listed(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return "".join(words) if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"


def mean_text(interval: Interval, decimals: int = 2) -> str:
    """ "94.21 ± 0.30 (5)": mean, 95% half-width, number of runs; a dash where there is no run."""
    if interval.n == 0 or math.isnan(interval.mean):
        return "–"
    if math.isnan(interval.half_width):
        return f"{interval.mean:.{decimals}f} ({interval.n})"
    return f"{interval.mean:.{decimals}f} ± {interval.half_width:.{decimals}f} ({interval.n})"


def signed_mean_text(interval: Interval, decimals: int = 2) -> str:
    """ "+0.82 ± 0.30 (5)": as `mean_text`, of a difference."""
    text = mean_text(interval, decimals)
    return text if text.startswith(("–", "-")) else f"+{text}"


def difference_text(difference: Difference | None) -> str:
    """ "+43.10 [+40.20, +46.00], p < 0.001 (5)": the difference, its 95% interval, the two-sided p, and the pairs."""
    if difference is None:
        return "–"
    interval = difference.interval
    if math.isnan(interval.half_width):
        return f"{interval.mean:+.2f} (one seed)"
    mark = ", sign-flip" if difference.test == "sign-flip" else ""
    mark += ", failures alone" if difference.p < ALPHA and difference.rests_on_failures else ""
    span = f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{span}, {p_text(difference.p)} ({interval.n}{mark})"


def method_title(method: str) -> str:
    """A method's name in a sentence: "sgd-2x" becomes "SGD-2x", "looksam5" "LookSAM5"; other names stay as they are."""
    head = re.match(r"[a-z]*", method)
    assert head is not None
    return TITLES.get(head.group(), head.group()) + method[head.end() :]
