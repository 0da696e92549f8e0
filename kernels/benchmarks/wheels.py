"""What a part of the check needs that may not be installed."""

from __future__ import annotations

import importlib.util


def not_installed(*names: str) -> str:
    """Says which of these top-level modules are not installed; empty when all are."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""
