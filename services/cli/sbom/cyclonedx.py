"""Describes an installation in the format CycloneDX 1.6."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

from services.cli.sbom.debian import DebianPackage
from services.cli.sbom.libraries import UNKNOWN, Library
from services.cli.sbom.packages import Package

SPEC_VERSION = "1.6"
OURS = "perigee"

Component: TypeAlias = Mapping[str, Any]


def document(packages: Sequence[Package], system: Sequence[DebianPackage] = ()) -> Mapping[str, Any]:
    """Returns the document, which depends on what is installed alone: it has no time and no random number.

    `packages`: Perigee, which it is about, and all that may be imported beside it.
    """
    about = next(package for package in packages if package.name == OURS)
    others = [_package(package) for package in packages if package is not about]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {"component": _package(about) | {"type": "application"}},
        "components": [_python(), *others, *map(_debian, system)],
    }


def _package(package: Package) -> dict[str, Any]:
    purl = f"pkg:pypi/{package.name}@{quote(package.version, safe='')}"
    inside = [*map(_declared, package.declared), *(_library(each) for each in package.libraries)]
    for index, each in enumerate(inside):
        each["bom-ref"] = f"{purl}#{index}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "licenses": _licences(package.licence, is_expression=package.is_spdx),
        **({"components": inside} if inside else {}),
    }


def _declared(component: Component) -> dict[str, Any]:
    return {"type": "library"} | dict(component)


def _library(library: Library) -> dict[str, Any]:
    return {
        "type": "library",
        "name": library.name,
        "licenses": _licences(library.licence, is_expression=library.licence != UNKNOWN),
        "properties": [{"name": "perigee:file", "value": library.file}],
    }


def _debian(package: DebianPackage) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
    }


def _python() -> dict[str, Any]:
    return {
        "type": "platform",
        "bom-ref": "python",
        "name": "python",
        "version": platform.python_version(),
        "licenses": _licences("PSF-2.0", is_expression=True),
    }


def _licences(text: str, *, is_expression: bool) -> Sequence[Mapping[str, Any]]:
    return [{"expression": text}] if is_expression else [{"license": {"name": text}}]
