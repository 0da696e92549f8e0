"""`perigee version`: prints the versions of Perigee and its main dependencies."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform

_SHOWN = ("torch", "nixl", "grpcio", "protobuf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sets the command's function; it has no arguments."""
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Prints one line per component."""
    print(f"perigee {importlib.metadata.version('perigee')}")
    print(f"python {platform.python_version()}")
    for name in _SHOWN:
        print(f"{name} {_version(name)}")
    return 0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
