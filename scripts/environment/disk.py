"""Whether the disk has room for what will be installed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

MB = 1_000_000


def missing_space(directory: Path, needed: int, temporary: int) -> list[str]:
    """Returns one line for each file system without enough free bytes.

    `needed`: what will lie below `directory`; `temporary`: what pip keeps in the directory of temporary files
    meanwhile.
    """
    scratch = Path(tempfile.gettempdir())
    if scratch.stat().st_dev == directory.stat().st_dev:
        return _missing(directory, needed + temporary, "")
    return _missing(directory, needed, "") + _missing(scratch, temporary, "; TMPDIR names another directory")


def _missing(directory: Path, needed: int, remedy: str) -> list[str]:
    free = shutil.disk_usage(directory).free
    if free >= needed:
        return []
    return [f"{directory} has {free // MB:,} MB free, and {needed // MB:,} MB are needed{remedy}"]
