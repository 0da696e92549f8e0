"""A service's program starts with the packages of its own extra: its image has no others."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
PROGRAM = """
import importlib, sys
absent = set(sys.argv[2:])
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is in another service's extra")
sys.meta_path.insert(0, Absent())
importlib.import_module(sys.argv[1])
"""


def modules(extra: str) -> set[str]:
    """Top-level modules of the packages that an extra names."""
    wanted = {re.split(r"[\[=<>]", line)[0].lower() for line in PROJECT["optional-dependencies"][extra]}
    found = packages_distributions().items()
    return {module for module, packages in found if wanted & {package.lower() for package in packages}}


@pytest.mark.parametrize(
    ("role", "own", "other"),
    [
        ("gateway", "gateway", "worker"),
        ("vision", "worker", "gateway"),
        ("prefill", "worker", "gateway"),
        ("decode", "worker", "gateway"),
    ],
)
def test_a_service_imports_no_package_of_another_service_alone(role, own, other):
    absent = modules(other) - modules(own)
    assert absent >= ({"torch", "nixl"} if other == "worker" else {"tiktoken", "starlette"})
    command = [sys.executable, "-c", PROGRAM, f"services.{role}.main", *absent]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
