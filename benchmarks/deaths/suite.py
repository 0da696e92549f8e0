"""`perigee run` of a checkout, with one worker of each role, and signals to its processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import httpx

from benchmarks.fleet import free_port, stop, wait_until_up

_STOP_S = 60.0
_LOOK_S = 0.1


class Suite:
    """A context manager: runs from a `checkout` with its own .venv. Logs go to `logs`; `environment` is added
    to this process's.
    """

    def __init__(
        self, checkout: Path, logs: Path, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._environment = {**os.environ, **environment}
        self._checkout = checkout
        self._logs = logs
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / "run.log"
        flags = {
            "run_dir": self._logs, "http_port": self.url.rpartition(":")[2], "grpc_port": 0,
            "operator_port": 0, "port_base": 0, "metrics_port_base": 0,
        }  # fmt: skip
        words = [str(self._checkout / ".venv/bin/perigee"), "run"]
        for name, value in flags.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                words,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._checkout,
                env=self._environment,
            )
        wait_until_up("the suite", lambda: self._missing() == [], self._process, log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        stop(self._process, _STOP_S)

    def pids(self, role: str) -> list[int]:
        """Processes of the role that the suite has started."""
        assert self._process is not None
        running = (each for each in Path("/proc").iterdir() if each.name.isdigit())
        children = (each for each in running if _parent(each) == self._process.pid)
        return [int(each.name) for each in children if role in _words(each)[:4]]

    async def until_whole(self, role: str, without: int | None) -> None:
        """Waits until all roles serve, the role's process being another one than `without`."""
        while True:
            pids = self.pids(role)
            if pids and without not in pids and await asyncio.to_thread(self._missing) == []:
                return
            await asyncio.sleep(_LOOK_S)

    def _missing(self) -> list[str] | None:
        """The roles that do not serve; None if the gateway does not answer."""
        try:
            answer = httpx.get(f"{self.url}/ready", timeout=2, trust_env=False)
        except httpx.TransportError:
            return None
        missing: list[str] | None = answer.json().get("missing")
        return missing


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process that lives."""
    os.kill(pid, number)


def _parent(process: Path) -> int:
    """The parent of a directory in /proc; 0 if the process has just ended."""
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _words(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text().split("\0")
    except OSError:
        return []
