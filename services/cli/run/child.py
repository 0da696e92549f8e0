"""A child process of the suite."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_TAIL_LINES = 20


class Child:
    """A command that can be started repeatedly, each time in a new session.

    Its output is appended to `log`, or goes where this process's output goes.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path | None = None) -> None:
        self._command = list(command)
        self._env = dict(env)
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, even after the process has ended; None before the first start."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts the command in a new session, so that only the supervisor gets the terminal's Ctrl-C."""
        with contextlib.ExitStack() as stack:
            output = None if self.log is None else stack.enter_context(self.log.open("ab"))
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def wait(self) -> int:
        """Waits for the end; returns the exit status, negative for a signal."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, timeout_s: float) -> bool:
        """Sends SIGTERM, and SIGKILL after `timeout_s`. Returns False if SIGKILL was needed."""
        if self._process is None or self._process.returncode is not None:
            return True
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()
            return False
        return True

    def kill(self) -> None:
        """Sends SIGKILL if the process runs."""
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGKILL)

    def tail(self) -> list[str]:
        """Returns the last 20 lines of the log; empty without a log."""
        if self.log is None:
            return []
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            return [line.rstrip("\n") for line in collections.deque(lines, _TAIL_LINES)]

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        # The process may end between the check and the signal.
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def perigee(*words: str) -> list[str]:
    """Returns a `perigee` command line for this interpreter; the child is killed when this process ends."""
    return [sys.executable, "-m", "services.cli.main", *words, "--die-with", str(os.getpid())]


def describe_exit(status: int) -> str:
    """Describes an exit status."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
