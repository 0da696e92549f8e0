"""Writes a benchmark's findings for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_result(path: Path | None, found: dict[str, Any]) -> None:
    """Writes JSON to `path`, unless it is None; makes its directory."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
