"""What runs achieve on further test sets, as two more measurements of each run."""

from __future__ import annotations

import pandas as pd

from flatmin.results.rules import BEYOND

_RUN = ["table", "dataset", "model", "method", "seed"]


def with_beyond(runs: pd.DataFrame, shifts: pd.DataFrame | None) -> pd.DataFrame:
    """Return ``runs`` with the columns of `BEYOND`, NaN where a run was not measured on such a set.

    ``shifted_accuracy`` is the mean over sets of new images, ``corrupted_accuracy`` the mean over the corruptions that
    count for the mean corruption error and their severities, both at the last epoch.
    """
    if shifts is None or shifts.empty:
        return runs.assign(**dict.fromkeys(BEYOND, float("nan")))
    last = shifts[shifts["epoch"] == "last"]
    parts = {
        "shifted_accuracy": last[last["form"] == "images"],
        "corrupted_accuracy": last[(last["form"] == "corruptions") & last["main"].astype(bool)],
    }
    means = {name: part.groupby(_RUN)["accuracy"].mean() for name, part in parts.items()}
    found = runs.set_index(_RUN)
    return runs.assign(**{name: mean.reindex(found.index).to_numpy(dtype=float) for name, mean in means.items()})
