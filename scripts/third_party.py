"""`python -m scripts.third_party`: writes docs/third-party.md from the packages that are installed.

`--check` writes nothing, and ends with status 1 if the page differs. All extras must be installed. The page
lists what Perigee and its extras bring, the extra `dev` apart.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from scripts.generated import differing
from services.cli.sbom.libraries import LibraryTable
from services.cli.sbom.packages import Package, canonical, described

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "third-party.md"
CORE = "always"
_LEFT_OUT = ("dev",)
_HEAD = """\
# Which packages of others does Perigee use?

Written by `make third-party` from what the installed packages say; change nothing here by hand. What it means
for images that are passed on: [publishing.md](publishing.md). Versions without a pin in `pyproject.toml` are
those of the day it was written; `perigee sbom` lists what an image or an installation really holds. The CUDA
build of torch brings triton (MIT) and packages named `nvidia-*`, under NVIDIA's own terms, besides.

| package | version | licence | brought by |
|---|---|---|---|
"""
_LIBRARIES = """
## Shared libraries inside the wheels

The licences are those of `services/cli/sbom/libraries.toml`, because few wheels state them. "unknown":
nobody has found it out.

| library | licence | in the wheel of |
|---|---|---|
"""


def main(words: Sequence[str]) -> int:
    """Returns the exit status."""
    text = page(brought_by(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]))
    checks = "--check" in words
    if not differing({PAGE: text}, write=not checks) or not checks:
        return 0
    print("docs/third-party.md differs from what is installed: make third-party", file=sys.stderr)
    return 1


def brought_by(project: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """Returns by package what brings it, alone or through others: CORE, or else extras.

    `project`: the table of pyproject.toml. Raises PackageNotFoundError for one that is not installed.
    """
    core = _closure(project["dependencies"])
    found: dict[str, list[str]] = {name: [CORE] for name in core}
    for extra, requirements in project["optional-dependencies"].items():
        if extra not in _LEFT_OUT:
            for name in _closure(requirements) - core:
                found.setdefault(name, []).append(extra)
    return found


def _closure(requirements: Sequence[str]) -> set[str]:
    found: set[str] = set()
    left = [(text, "") for text in requirements]
    done: set[tuple[str, str]] = set()
    while left:
        text, extra = left.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonical(requirement.name)
        found.add(name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in done:
                done.add((name, wanted))
                left += [(each, wanted) for each in importlib.metadata.requires(name) or ()]
    return found


def page(brought: Mapping[str, Sequence[str]]) -> str:
    """Returns the text of the page."""
    table = LibraryTable()
    packages = [described(importlib.metadata.distribution(name), table) for name in sorted(brought)]
    rows = [
        f"| {package.name} | {package.version.partition('+')[0]} | {package.licence} | "
        f"{', '.join(brought[package.name])} |\n"
        for package in packages
    ]
    return _HEAD + "".join(rows) + _LIBRARIES + "".join(_library_rows(packages))


def _library_rows(packages: Sequence[Package]) -> list[str]:
    wheels: dict[tuple[str, str], list[str]] = {}
    for package in packages:
        for key in {(each.name, each.licence): None for each in package.libraries}:
            wheels.setdefault(key, []).append(package.name)
    ordered = sorted(wheels, key=lambda key: key[0].lower())
    return [f"| {name} | {licence} | {', '.join(wheels[name, licence])} |\n" for name, licence in ordered]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
