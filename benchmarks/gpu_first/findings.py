"""What a step leaves in its directory: `found.json` and tables, written while it runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from benchmarks.result import write_result
from kernels.benchmarks.report import read_facts

_FOUND = "found.json"


class Findings:
    """A step's own `found.json`. Without a directory nothing is written."""

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / _FOUND
        self.found: dict[str, Any] = {}

    def add(self, **facts: object) -> None:
        """Adds facts, and prints them."""
        for name, value in facts.items():
            print(f"{name}: {value}", flush=True)
        self.found |= facts
        write_result(self._path, self.found)


def read_findings(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a step found, and its tables by name: `facts`, and `rows` with the empty cells left out. A step
    that was killed has left what it knew.
    """
    found = directory / _FOUND
    tables = {
        path.stem: {"facts": read_facts(path.with_suffix(".md")), "rows": _rows(path)}
        for path in sorted(directory.rglob("*.csv"))
    }
    try:
        return json.loads(found.read_text()) if found.exists() else {}, tables
    except json.JSONDecodeError:  # it was killed while it wrote
        return {}, tables


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]
