"""The MLflow view of the records: one run per run key, found and updated, never duplicated.

Only the driver writes, in batches. Whatever is lost here, records hold: a missing or stale MLflow store is rebuilt from
them, and a server that does not answer delays the view and fails nothing.
"""

from flatmin.tracking.live import LiveView
from flatmin.tracking.present import present
from flatmin.tracking.seen import Seen, TrackedRun, as_seen, flatten
from flatmin.tracking.server import EXPERIMENT, TrackingWarning, answers, tracking_uri, warn
from flatmin.tracking.tracker import Tracker, connect, synchronised

__all__ = [
    "EXPERIMENT",
    "LiveView",
    "Seen",
    "TrackedRun",
    "Tracker",
    "TrackingWarning",
    "answers",
    "as_seen",
    "connect",
    "flatten",
    "present",
    "synchronised",
    "tracking_uri",
    "warn",
]
