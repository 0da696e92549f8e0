"""Finds packages that a part of the check needs but that are not installed."""

from __future__ import annotations

import importlib.util


def not_installed(*names: str) -> str:
    """Names those of these top-level modules that are not installed; empty if all are."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""
