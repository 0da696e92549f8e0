"""A clone of the repository with a home of its own, and the commands run in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scripts.first_hour.failed import Failed, expect
from scripts.first_hour.watched import Watched

_COMMAND_S = 180.0
PERIGEE = ".venv/bin/perigee"
ANY_PORTS = tuple(
    f"--{name}=0" for name in ("http-port", "grpc-port", "operator-port", "port-base", "metrics-port-base")
)
# What would reach into the clone from outside: a run of make above, another environment, other settings.
_DROPPED = (
    "MAKE", "MFLAGS", "PERIGEE_", "XDG_", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PIP_CACHE_DIR", "TORCH",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both outputs."""
        return self.out + self.err


@dataclass
class Clone:
    """`directory`: the clone; `home`: its user's home; `python`: with which .venv is made; `repository`:
    where it comes from, whose tests can be run. `suite`: what `make run` started there, if it runs.
    """

    repository: Path
    directory: Path
    home: Path
    python: str
    suite: Watched | None = None
    _env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED)}
        paths = [path for path in kept.get("PATH", "").split(":") if ".venv" not in path]
        self._env = {**kept, "PATH": ":".join(paths), "HOME": str(self.home), "no_proxy": "127.0.0.1"}

    def run(
        self,
        *words: str,
        env: Mapping[str, str] = MappingProxyType({}),
        stdin: str = "",
        timeout_s: float = _COMMAND_S,
    ) -> Done:
        """Runs a command in the clone. Raises Failed if it does not end in time."""
        try:
            done = subprocess.run(
                words,
                cwd=self.directory,
                env=self._env | dict(env),
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(words[:4])} has not ended after {timeout_s:.0f} s") from None
        return Done(done.returncode, done.stdout, done.stderr)

    def perigee(self, *words: str, env: Mapping[str, str] = MappingProxyType({}), stdin: str = "") -> Done:
        """Runs `perigee WORDS` in the clone."""
        return self.run(PERIGEE, *words, env=env, stdin=stdin)

    def answered(self, *words: str, env: Mapping[str, str] = MappingProxyType({}), stdin: str = "") -> str:
        """Returns what `perigee WORDS` prints to standard output. Raises Failed unless it succeeds."""
        done = self.perigee(*words, env=env, stdin=stdin)
        expect(done.status == 0, f"perigee {words[0]} ended with {done.status}: {done.err.strip()}")
        return done.out

    def watch(self, *words: str, env: Mapping[str, str] = MappingProxyType({})) -> Watched:
        """Starts a command in the clone."""
        return Watched(words, self.directory, self._env | dict(env))

    def make_run(self, *flags: str) -> Watched:
        """Starts `make run` with flags of `perigee run`."""
        return self.watch("make", "run", f"PYTHON={self.python}", f"ARGS={' '.join(flags)}")

    def state(self) -> dict[str, Any]:
        """Returns what `perigee status --json` says. Raises Failed if no suite serves."""
        found: dict[str, Any] = json.loads(self.answered("status", "--json"))
        return found

    def service(self, role: str) -> dict[str, Any]:
        """Returns what the status says about one service."""
        found: dict[str, Any] = next(each for each in self.state()["services"] if each["role"] == role)
        return found

    def door(self) -> tuple[str, str]:
        """Returns the flag of commands that ask the gateway's gRPC port, and its value."""
        return "--address", self.state()["grpc"]

    def operator(self) -> tuple[str, str]:
        """Returns the flag of operators' commands, and its value."""
        return "--address", self.state()["operator"]

    def get(self, path: str) -> str:
        """Returns what the gateway's REST port answers."""
        with urllib.request.urlopen(f"{self.state()['rest']}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    def tests(self, *names: str) -> str:
        """Runs tests of the repository by name, in its own environment. Returns how many passed."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names]
        done = subprocess.run(
            command, cwd=self.repository, capture_output=True, text=True, timeout=600, check=False
        )
        last = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()]
        expect(done.returncode == 0, last[0])
        return f"tests: {last[0].split(' in ')[0].strip('= ')}"


def make_clone(repository: Path, scratch: Path, python: str) -> Clone:
    """Clones the present commit into `scratch`, beside an empty home. Raises CalledProcessError."""
    directory, home = scratch / "perigee", scratch / "home"
    home.mkdir()
    command: Sequence[str] = ("git", "clone", "--quiet", str(repository), str(directory))
    subprocess.run(command, check=True)
    return Clone(repository, directory, home, python)
