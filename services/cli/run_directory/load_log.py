"""How far a service has loaded its checkpoint, by what it logs."""

from __future__ import annotations

import json
from pathlib import Path

_EVENT = b'"loading weights"'
_MOST_READ = 1 << 16


class LoadLog:
    """Follows a log file from its present end."""

    def __init__(self, path: Path | None) -> None:
        """None: there is no file, and nothing is ever known."""
        self._path = path
        self._offset = path.stat().st_size if path is not None and path.exists() else 0
        self._latest = ""

    def latest(self) -> str:
        """E.g. "12 of 64 shards, 110.2 of 595.1 GB"; empty until the service begins to load. Never raises for
        what a line holds.
        """
        for line in self._new_lines():
            if line.startswith(b"{") and _EVENT in line:
                self._latest = _told(line) or self._latest
        return self._latest

    def _new_lines(self) -> list[bytes]:
        if self._path is None or not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read(_MOST_READ)
        # A line that is not complete is read again, unless it is longer than any of ours.
        whole = text.rfind(b"\n") + 1 or (len(text) if len(text) == _MOST_READ else 0)
        self._offset += whole
        return text[:whole].splitlines()


def _told(line: bytes) -> str:
    try:
        values = json.loads(line)
        shards = f"{int(values['shards'])} of {int(values['of_shards'])} shards"
        done, total = (int(values[key]) / 1e9 for key in ("done_bytes", "total_bytes"))
    except (ValueError, KeyError, TypeError):
        return ""
    return f"{shards}, {done:.1f} of {total:.1f} GB"
