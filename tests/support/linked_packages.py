"""Links installed packages, and all that they need, into another folder: an environment without a network."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from pathlib import Path


def link(names: Iterable[str], site: Path) -> None:
    """Links the packages, and what they depend on without extras, into a folder of packages."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for name in names:
        _collect(name, found)
    for distribution in found.values():
        for top in {file.parts[0] for file in distribution.files or ()} - {".."}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))


def _collect(name: str, found: dict[str, importlib.metadata.Distribution]) -> None:
    if name in found:
        return
    found[name] = importlib.metadata.distribution(name)
    for requirement in found[name].requires or ():
        if "extra ==" not in requirement:
            _collect(re.match(r"[\w.-]+", requirement)[0], found)
