"""Writes the lock files of the clients: `python -m tests.clients.lock [CLIENT...]`, by default all.

A Python client's requirements.in names what is wanted; requirements.txt pins all that this brings, with the
hash of the file that pip takes here. A Node client has its package.json and package-lock.json. Neither holds
an address.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients.client import CLIENTS, Client


def main(names: list[str]) -> None:
    """Writes the lock file of each client named."""
    for client in CLIENTS:
        if not names or client.name in names:
            _LOCKERS[client.language](client)


def _lock_python(client: Client) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
                "--only-binary", ":all:", "--report", report,
                "--requirement", client.folder / "requirements.in",
            ],
            check=True,
        )  # fmt: skip
        chosen = json.loads(report.read_text())["install"]
    pins = sorted(_pin(each) for each in chosen)
    head = f"# Written by `python -m tests.clients.lock {client.name}` from requirements.in.\n"
    (client.folder / "requirements.txt").write_text(head + "".join(pins))


def _pin(chosen: dict) -> str:
    name = re.sub(r"[-_.]+", "-", chosen["metadata"]["name"]).lower()
    digest = chosen["download_info"]["archive_info"]["hashes"]["sha256"]
    return f"{name}=={chosen['metadata']['version']} --hash=sha256:{digest}\n"


def _lock_node(client: Client) -> None:
    lock = client.folder / "package-lock.json"
    lock.unlink(missing_ok=True)
    subprocess.run(
        [
            "npm",
            "install",
            "--package-lock-only",
            "--omit-lockfile-registry-resolved",
            "--no-audit",
            "--no-fund",
        ],
        cwd=client.folder,
        check=True,
    )
    held = json.loads(lock.read_text())
    for package in held["packages"].values():
        package.pop("funding", None)  # addresses
    lock.write_text(json.dumps(held, indent=2) + "\n")


_LOCKERS = {"python": _lock_python, "node": _lock_node}

if __name__ == "__main__":
    main(sys.argv[1:])
