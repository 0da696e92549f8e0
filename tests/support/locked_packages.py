"""Python packages pinned by a lock file: writing it, and installing them into an environment of their own.

The folder's requirements.in names what is wanted; requirements.txt pins all that this brings, with the hash
of the file that pip takes here, and holds no address.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

INSTALL_S = 300.0
PIN = re.compile(r"[a-z0-9-]+==[\w.+!]+ --hash=sha256:[0-9a-f]{64}")
_WHEELS_ALONE = ("--only-binary", ":all:")


def write_lock(folder: Path, command: str, *, wheels_alone: bool = True) -> None:
    """Writes requirements.txt, whose head names `command`. `wheels_alone`: False: packages that come as
    source alone may be wanted, and are left out of the lock file, because they would have to be built.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        ask = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        wanted = ["--report", report, "--requirement", folder / "requirements.in"]
        subprocess.run([*ask, *(_WHEELS_ALONE if wheels_alone else ()), *wanted], check=True)
        chosen = json.loads(report.read_text())["install"]
    pins = sorted(_pin(each) for each in chosen if each["download_info"]["url"].endswith(".whl"))
    head = f"# Written by `{command}` from requirements.in.\n"
    (folder / "requirements.txt").write_text(head + "".join(pins))


def _pin(chosen: dict[str, Any]) -> str:
    name = re.sub(r"[-_.]+", "-", chosen["metadata"]["name"]).lower()
    digest = chosen["download_info"]["archive_info"]["hashes"]["sha256"]
    return f"{name}=={chosen['metadata']['version']} --hash=sha256:{digest}\n"


def install(lock: Path, venv: Path) -> None:
    """Makes a virtual environment of what the lock file pins. Raises AssertionError with pip's output."""
    run([sys.executable, "-m", "venv", venv])
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", *_WHEELS_ALONE]
    run([*pip, "--require-hashes", "--requirement", lock])


def keep(folder: Path, lock: Path, make: Callable[[], None]) -> None:
    """Has `make` fill the folder, empty then, unless it did so for the lock file as it is now."""
    stamp, digest = folder / "installed", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make()
        stamp.write_text(digest)


def run(command: Sequence[str | Path], folder: Path | None = None) -> None:
    """Runs an installer. Raises AssertionError with its output if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}"
