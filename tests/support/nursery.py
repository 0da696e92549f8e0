"""Starts processes quickly: importing torch, most of a worker's start, happens once for all of them.

They are forked from a process that has imported it (tests/support/nursery_process.py). Otherwise they are
like `python -m MODULE`: own environment, signals and end. `perigee run` and the role commands start theirs
without a nursery, and tests/cli tests that.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import BinaryIO

# Read when torch is loaded: with other busy processes, a second thread makes every operation slower.
CPU_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
_START_S = 60.0


class NurseryProcess:
    """The part of subprocess.Popen's interface that the tests need."""

    def __init__(self, status: BinaryIO) -> None:
        self._status = status
        self.returncode: int | None = None
        started, _, _ = select.select([status], [], [], _START_S)
        line = status.readline() if started else b""
        assert line, "the nursery does not start programs"
        self.pid = int(line)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._await(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""
        code = self._await(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal; does nothing if the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _await(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode


class Nursery:
    """Starts programs, which end at the latest with it or with the process that made it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.nursery_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **CPU_ENVIRONMENT},
            )

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], output: BinaryIO
    ) -> NurseryProcess:
        """Runs `python -m MODULE ARGUMENTS` with this environment; its output goes to `output`."""
        request = {"module": module, "arguments": list(arguments), "environment": dict(environment)}
        reading, writing = os.pipe()
        socket.send_fds(self._control, [json.dumps(request).encode()], [output.fileno(), writing])
        os.close(writing)
        return NurseryProcess(os.fdopen(reading, "rb", buffering=0))

    def close(self) -> None:
        """Ends the programs it started that still run."""
        self._control.close()
        self._process.wait(_START_S)


@functools.cache
def shared_nursery() -> Nursery:
    """The nursery of all tests, made on first use."""
    nursery = Nursery()
    atexit.register(nursery.close)
    return nursery
