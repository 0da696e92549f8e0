"""Writes the lock files of the clients: `python -m tests.clients.lock [CLIENT...]`, by default all.

A Python client has its requirements.in and requirements.txt, a Node client its package.json and
package-lock.json. No lock file holds an address.
"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.clients.client import CLIENTS, Client
from tests.support.locked_packages import write_lock


def main(names: list[str]) -> None:
    """Writes the lock file of each client named."""
    for client in CLIENTS:
        if not names or client.name in names:
            _LOCKERS[client.language](client)


def _lock_python(client: Client) -> None:
    write_lock(client.folder, f"python -m tests.clients.lock {client.name}")


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
