"""Environments of the clients: a virtual environment or node_modules for each, made from its lock file."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.clients.client import Client
from tests.support.locked_packages import install, keep, run

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
        language = self._client.language
        lock = self._client.folder / _LOCKS[language]
        keep(self._folder, lock, self._install_python if language == "python" else self._install_node)
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
        install(self._client.folder / "requirements.txt", self._folder / "venv")

    def _install_node(self) -> None:
        assert shutil.which("node"), "clients for Node need node (20 or newer) and npm"
        assert shutil.which("npm"), "clients for Node need npm"
        for name in ("package.json", "package-lock.json"):
            shutil.copy(self._client.folder / name, self._folder)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], self._folder)
