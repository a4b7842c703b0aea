"""Telling how far a long reading is."""

from __future__ import annotations


def tell_tenths(done: int, total: int) -> None:
    """Print every tenth of the images that are read."""
    if 10 * done // total > 10 * (done - 1) // total:
        print(f"{done:,} of {total:,} images read")
