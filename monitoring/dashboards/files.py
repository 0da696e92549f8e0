"""Which file holds which dashboard."""

from __future__ import annotations

from pathlib import Path

from monitoring.dashboards.overview import OVERVIEW
from monitoring.dashboards.workers import WORKERS

_HERE = Path(__file__).parent

FILES = {_HERE / "overview.json": OVERVIEW, _HERE / "workers.json": WORKERS}
