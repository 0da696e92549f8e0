"""Shared libraries inside wheels: which project a file belongs to, and its licence."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePath

TABLE = Path(__file__).with_name("libraries.toml")
UNKNOWN = "unknown"
"""The licence of a library that the table does not know, or knows without one."""

_LIBRARY = re.compile(r"lib[^/]*\.so(\.[\d.]+(-beta\.\d+)?)?")
# Python finds these itself: they are the package's own code.
_EXTENSION = re.compile(r"\.(cpython-\w+|abi3)[\w-]*\.so$")
# What repairing a wheel adds to a library's name, and the version.
_TAIL = re.compile(r"(-[0-9a-f]{8})*\.so(\..*)?$")


@dataclass(frozen=True)
class Library:
    """A file in a wheel, the project it is of, and the licence of that as an SPDX expression."""

    file: str
    name: str
    licence: str


class LibraryTable:
    """The table of libraries.toml, written by hand: wheels do not say it."""

    def __init__(self, text: str | None = None) -> None:
        """`text`: of another table. Raises ValueError if that is not TOML."""
        rows = tomllib.loads(TABLE.read_text() if text is None else text)["libraries"]
        self._rows = [(pattern, row["name"], row["licence"]) for row in rows for pattern in row["files"]]

    def is_library(self, path: PurePath) -> bool:
        """Whether a file of a wheel is a shared library and no extension module."""
        return bool(_LIBRARY.fullmatch(path.name)) and not _EXTENSION.search(path.name)

    def library(self, file: str) -> Library:
        """Returns the first row that matches; without one, the name is the stem and the licence UNKNOWN."""
        stem = _TAIL.sub("", file)
        for pattern, name, licence in self._rows:
            if fnmatch.fnmatchcase(stem, pattern):
                return Library(file, name, licence)
        return Library(file, stem, UNKNOWN)
