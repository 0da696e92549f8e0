"""What a part of the check needs that may not be installed."""

from __future__ import annotations

import importlib.util


def not_installed(*names: str) -> str:
    """Of top-level modules, those that are not there, as a reason; empty where all are."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""
