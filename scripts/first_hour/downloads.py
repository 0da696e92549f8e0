"""What pip downloaded, by its log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_SIZED = re.compile(r"\s*(?:Downloading|Using cached) (\S+) \(([\d.]+) (bytes|kB|MB|GB)\)")
_FILE = re.compile(r"\s*Processing (\S+\.(?:whl|tar\.gz))")
_BYTES = {"bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def downloaded_bytes(log: Iterable[str]) -> float:
    """Returns the bytes of all files that pip fetched, each once.

    Files of this machine that pip found by its settings count as well: elsewhere they would be downloaded.
    """
    found: dict[str, float] = {}
    for line in log:
        if sized := _SIZED.match(line):
            found.setdefault(_name(sized[1]), float(sized[2]) * _BYTES[sized[3]])
        elif (taken := _FILE.match(line)) and (path := Path(taken[1])).is_file():
            found.setdefault(_name(taken[1]), float(path.stat().st_size))
    return sum(found.values())


def _name(file: str) -> str:
    return file.rpartition("/")[2].replace("%2B", "+")
