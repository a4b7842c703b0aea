"""Checkpoints: everything that the rest of a run depends on, replaced by one rename.

A resumed run goes on to the same bits as an unbroken one. Its weights, the base optimizer's state, the position, the
sums of the epoch in progress, the rows so far, the best epoch's weights, and the state of every generator that has
been drawn from are in the file; what a closed form gives (learning rate, order of an epoch) is not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; a crash leaves the previous one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return a checkpoint, or None where there is none or it cannot be read (then the run starts anew)."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:  # torch raises many types for a damaged file; starting anew is right for all of them
        return None
    return state
