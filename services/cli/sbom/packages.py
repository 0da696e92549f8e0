"""Python packages as their metadata describe them."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from services.cli.sbom.libraries import Library, LibraryTable

# How packages without a licence expression spell what SPDX has an identifier for.
_SPDX: Mapping[str, str] = MappingProxyType(
    {
        "3-Clause BSD License": "BSD-3-Clause",
        "Apache 2.0": "Apache-2.0",
        "Apache Software License": "Apache-2.0",
        "Apache-2.0": "Apache-2.0",
        "BSD 3-Clause License": "BSD-3-Clause",
        "MIT": "MIT",
        "MIT License": "MIT",
        "MIT OR Apache-2.0": "MIT OR Apache-2.0",
        "MPL-2.0": "MPL-2.0",
    }
)
_LONGEST = 60


@dataclass(frozen=True)
class Package:
    """An installed package.

    `licence`: as its metadata say; `is_spdx`: whether that is an SPDX expression; `libraries`: the shared
    libraries of its wheel; `declared`: components that the wheel's own SBOMs name (PEP 770).
    """

    name: str
    version: str
    licence: str
    is_spdx: bool
    libraries: Sequence[Library]
    declared: Sequence[Mapping[str, Any]]


def installed(table: LibraryTable) -> list[Package]:
    """Returns all packages that this interpreter can import, Perigee included, by name."""
    found = {canonical(each.name): each for each in importlib.metadata.distributions()}
    return [described(found[name], table) for name in sorted(found)]


def described(distribution: importlib.metadata.Distribution, table: LibraryTable) -> Package:
    """Returns what is known of one package."""
    licence, is_spdx = _licence(distribution.metadata)
    # Images lack some files of a wheel.
    files = {
        path.name
        for path in distribution.files or ()
        if table.is_library(path) and Path(distribution.locate_file(path)).exists()  # type: ignore[arg-type]
    }
    return Package(
        canonical(distribution.name),
        distribution.version,
        licence,
        is_spdx,
        [table.library(name) for name in sorted(files)],
        _declared(distribution),
    )


def canonical(name: str) -> str:
    """A package's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(metadata: Any) -> tuple[str, bool]:
    if expression := metadata.get("License-Expression"):
        return expression, True
    line = (metadata.get("License") or "").strip().partition("\n")[0].strip()
    classifiers = metadata.get_all("Classifier") or ()
    named = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")]
    for text in (line, " OR ".join(named)):
        if text in _SPDX:
            return _SPDX[text], True
    if named:
        return ", ".join(named), False
    # Some packages have the whole licence in this field.
    return (line if 0 < len(line) <= _LONGEST else "unknown"), False


def _declared(distribution: importlib.metadata.Distribution) -> list[Mapping[str, Any]]:
    """Returns each component of the wheel's SBOMs once, without its place in the wheel."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for path in distribution.files or ():
        if path.parent.name == "sboms" and path.suffix == ".json":
            declared = json.loads(path.read_text(encoding="utf-8"))
            for each in _kept(declared.get("components", ())):
                if canonical(each["name"]) != canonical(distribution.name):
                    found.setdefault((each["name"], each.get("version", "")), each)
    return [found[key] for key in sorted(found)]


def _kept(components: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    keys = ("type", "name", "version", "purl", "licenses")
    for each in components:
        yield {key: each[key] for key in keys if each.get(key)}
