"""Where everything lies in a study's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flatmin.store import STATE
from flatmin.study import PARAMS


@dataclass(frozen=True)
class Workspace:
    """The folder of a study: its inputs, the outputs of its stages, and the state that is neither."""

    root: Path = Path()

    @property
    def params(self) -> Path:
        """The study."""
        return self.root / PARAMS

    @property
    def presets(self) -> Path:
        """Ready studies."""
        return self.root / "experiments"

    @property
    def claims(self) -> Path:
        """The published statements and the rule that decides them."""
        return self.presets / "claims.yaml"

    @property
    def state(self) -> Path:
        """Store, work in progress, logs, lock."""
        return self.root / STATE

    @property
    def raw(self) -> Path:
        """Verified files of the sources, a folder each."""
        return self.root / "data" / "raw"

    @property
    def prepared(self) -> Path:
        """Images of the sources and draws of the datasets."""
        return self.root / "data" / "prepared"

    @property
    def results(self) -> Path:
        """Tables, claims, figures, report."""
        return self.root / "results"

    def selection(self, table: str) -> Path:
        """What ``select`` chose for a table."""
        return self.root / "selections" / f"{table}.json"

    def runs(self, table: str) -> Path:
        """The table's runs, a folder each."""
        return self.root / "runs" / table

    def timings(self, table: str) -> Path:
        """The measured seconds of the table's runs."""
        return self.root / "timings" / table

    def evaluations(self, table: str) -> Path:
        """What the table's runs achieve on test data."""
        return self.root / "evaluations" / table

    def sharpness(self, table: str) -> Path:
        """How sharp the table's solutions are."""
        return self.root / "sharpness" / table

    def of_table(self, table: str) -> list[Path]:
        """All outputs of one table."""
        return [
            self.selection(table),
            self.runs(table),
            self.timings(table),
            self.evaluations(table),
            self.sharpness(table),
        ]
