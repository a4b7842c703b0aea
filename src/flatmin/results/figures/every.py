"""Every figure of the page, by name, in its order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from flatmin.results.blocks import Layout, with_failed
from flatmin.results.claims import Judged
from flatmin.results.figures.claims import claims_forest
from flatmin.results.figures.comparisons import differences, last_and_early
from flatmin.results.figures.corruptions import corruption_heat
from flatmin.results.figures.curves import learning_curves, memorisation
from flatmin.results.figures.drawn import Drawn
from flatmin.results.figures.noise import noise_robustness
from flatmin.results.figures.scatter import against_cost, against_sharpness
from flatmin.results.figures.sweeps import m_sweep, rho_sweep

__all__ = ["Drawn", "every_figure"]


def every_figure(
    layouts: Sequence[Layout],
    runs: pd.DataFrame,
    histories: Mapping[str, pd.DataFrame],
    shifts: pd.DataFrame | None,
    judged: Sequence[Judged],
) -> dict[str, Drawn]:
    """Draw all that the runs can fill: the study's claims, then each table's figures as ``<table>-<kind>``.

    Args:
        layouts: The tables, in print order.
        runs: The measured runs (`flatmin.results.inputs.measured`).
        histories: By run id, a line per epoch; a run without one has no learning curve.
        shifts: What the runs achieve on further test sets (`flatmin.results.shift.COLUMNS`), if anything.
        judged: Every claim with its outcomes.
    """
    found: dict[str, Drawn | None] = {"claims": claims_forest(judged)}
    for laid in layouts:
        found |= {f"{laid.table.name}-{kind}": drawn for kind, drawn in _of_table(laid, runs, histories, shifts)}
    return {name: drawn for name, drawn in found.items() if drawn is not None}


def _of_table(
    laid: Layout, runs: pd.DataFrame, histories: Mapping[str, pd.DataFrame], shifts: pd.DataFrame | None
) -> Iterator[tuple[str, Drawn | None]]:
    yield "differences", differences(laid)
    yield "early", last_and_early(laid)
    yield "noise", noise_robustness(laid)
    yield "rho", rho_sweep(laid, runs)
    yield "m", m_sweep(laid, runs)
    yield "corruptions", corruption_heat(laid, None if shifts is None else with_failed(shifts, runs, laid.table))
    yield "curves", learning_curves(laid, runs, histories)
    yield "memorised", memorisation(laid, runs, histories)
    yield "sharpness", against_sharpness(laid, runs)
    yield "cost", against_cost(laid, runs)
