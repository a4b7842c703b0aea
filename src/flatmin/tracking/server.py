"""Where MLflow is, and whether it answers."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
import warnings
from pathlib import Path

# set before mlflow is imported: no telemetry, no two lines for every run, and a dead server is noticed in seconds
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

EXPERIMENT = "flatmin"
FILE = "sqlite:///"
ANSWER_SECONDS = 3.0


class TrackingWarning(UserWarning):
    """MLflow could not be reached; the study goes on without it."""


def tracking_uri(root: Path) -> str:
    """Return ``MLFLOW_TRACKING_URI``, or the study's own SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{FILE}{root.absolute()}/mlflow.db"


def answers(uri: str) -> bool:
    """Return whether a tracking server answers at all; a file always does."""
    if not uri.startswith(("http://", "https://")):
        return True
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it answers; what it says of this path is its own affair
    except OSError:
        return False


def warn(uri: str, error: Exception) -> None:
    """Say that the MLflow view is late, and how it catches up."""
    warnings.warn(
        TrackingWarning(
            f"MLflow at {uri} cannot be written ({error}); the records are complete, and `flatmin aggregate` brings "
            "MLflow up to date when it answers again"
        ),
        stacklevel=2,
    )
