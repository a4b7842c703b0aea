"""Where the real data files lie that some tests need, and skip without."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("FLATMIN_TEST_SHARED", Path(__file__).parents[3] / "shared"))
