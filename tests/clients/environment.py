"""Environments of the clients: a virtual environment or node_modules for each, made from its lock file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.clients.client import Client

INSTALL_S = 300.0
_LOCKS = {"python": "requirements.txt", "node": "package-lock.json"}
_CHECKLISTS = {"python": "checklist.py", "node": "checklist.mjs"}
_SCRIPTS = {"python": "script.py", "node": "script.mjs"}


class Environment:
    """The environment of a client in a folder of its own below `root`; kept until its lock file changes."""

    def __init__(self, client: Client, root: Path) -> None:
        self._client = client
        self._folder = root / str(client)

    def prepare(self) -> None:
        """Installs what the lock file names, unless that has been done; copies the script.

        The script runs from a copy, because Node looks for packages beside the script. Raises AssertionError
        with the installer's output.
        """
        lock = self._client.folder / _LOCKS[self._client.language]
        stamp = self._folder / "installed"
        digest = hashlib.sha256(lock.read_bytes()).hexdigest()
        if not stamp.exists() or stamp.read_text() != digest:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            (self._install_python if self._client.language == "python" else self._install_node)()
            stamp.write_text(digest)
        language = self._client.language
        shutil.copy(self._client.folder / _SCRIPTS[language], self._folder)
        shutil.copy(self._client.folder.parent / _CHECKLISTS[language], self._folder)

    @property
    def folder(self) -> Path:
        """Where the script is and runs."""
        return self._folder

    @property
    def command(self) -> list[str]:
        """What runs the client's script; its arguments follow."""
        language = self._client.language
        interpreter = str(self._folder / "venv/bin/python") if language == "python" else "node"
        return [interpreter, str(self._folder / _SCRIPTS[language])]

    def _install_python(self) -> None:
        venv = self._folder / "venv"
        _run([sys.executable, "-m", "venv", venv])
        lock = self._client.folder / "requirements.txt"
        _run(
            [venv / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
             "--only-binary", ":all:", "--requirement", lock]
        )  # fmt: skip

    def _install_node(self) -> None:
        assert shutil.which("node"), "clients for Node need node (20 or newer) and npm"
        assert shutil.which("npm"), "clients for Node need npm"
        for name in ("package.json", "package-lock.json"):
            shutil.copy(self._client.folder / name, self._folder)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], self._folder)


def _run(command: Sequence[str | Path], folder: Path | None = None) -> None:
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
