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

from services.cli.run.handover import SupervisorsEnd

_TAIL_LINES = 20


class Child:
    """A command that can be started repeatedly, each time in a new session.

    Its output is appended to `log`, or goes where this process's output goes. `asks`: the command is a worker
    that takes --handover, and after SIGTERM goes on until `stop` is called.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], log: Path | None = None, *, asks: bool = False
    ) -> None:
        self._command = list(command)
        self._env = dict(env)
        self.log = log
        self._asks = asks
        self._handover: SupervisorsEnd | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, even after the process has ended; None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """True from a start until the process has ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Starts the command in a new session, so that only the supervisor gets the terminal's Ctrl-C."""
        with contextlib.ExitStack() as stack:
            output = None if self.log is None else stack.enter_context(self.log.open("ab"))
            words, inherited = self._command, []
            if self._asks:
                self._handover = SupervisorsEnd()
                inherited.append(stack.enter_context(self._handover.theirs).fileno())
                words = [*words, "--handover", str(inherited[0])]
            self._process = await asyncio.create_subprocess_exec(
                *words,
                pass_fds=inherited,
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

    async def wait_or_asked(self) -> int | None:
        """Waits as `wait` does, or until the child got SIGTERM and asks what to do: then returns None."""
        if self._handover is None:
            return await self.wait()
        ended = asyncio.ensure_future(self.wait())
        asked = asyncio.ensure_future(self._handover.asked.wait())
        try:
            await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else None
        finally:
            ended.cancel()
            asked.cancel()

    async def stop(self, timeout_s: float) -> bool:
        """Has the child end, by SIGKILL after `timeout_s`. Returns False if SIGKILL was needed."""
        if self._process is None or not self.running:
            return True
        if self._handover is not None:
            self._handover.answer()
        # A second SIGTERM would end the child at once.
        if self._handover is None or not self._handover.asked.is_set():
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
        if self.running:
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
