"""Files that are made from others: written, or compared with what they would be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def differing(wanted: Mapping[Path, str], *, write: bool) -> list[Path]:
    """Returns the files that lack or do not have the wanted text, in order; gives it to them if `write`."""
    found = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if write:
        for path in found:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
    return found
