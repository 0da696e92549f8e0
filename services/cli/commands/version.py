"""`perigee version`: prints the versions of Perigee and its main dependencies."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import platform
from collections.abc import Sequence

_SHOWN = (("torch",), ("nixl", "nixl-cu13"), ("grpcio",), ("protobuf",))
"""Names of packages; of several, the first that is installed is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sets the command's function; it has no arguments."""
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Prints one line per component."""
    print(f"perigee {importlib.metadata.version('perigee')}")
    print(f"python {platform.python_version()}")
    for names in _SHOWN:
        print(_version(names))
    return 0


def _version(names: Sequence[str]) -> str:
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"{name} {importlib.metadata.version(name)}"
    return f"{names[0]} not installed"
