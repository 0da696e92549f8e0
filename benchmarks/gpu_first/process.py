"""One step's process, which is ended with all that it started when its time is up."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_LAST_WORDS_S = 2.0
"""Seconds to write where each thread stands, before the process is killed."""
_REAP_S = 5.0
"""Seconds to wait for killed processes: the GPU's driver may hold them."""
_LOOK_S = 0.05


@dataclass(frozen=True)
class Ending:
    """`status`: as the process gave it, negative for a signal; None: it was killed when its time was up.
    `left_behind`: the driver did not let go of all its processes even then.
    """

    status: int | None
    seconds: float
    left_behind: bool = False

    @property
    def failure(self) -> str:
        """Says how it failed; empty if it ended well."""
        if self.status is None:
            stays = "; a process of it is still there" if self.left_behind else ""
            return f"killed after {self.seconds:.0f} s{stays}"
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}"
        return f"ended with status {self.status}" if self.status else ""


def run_process(
    words: Sequence[str], limit_s: float, log: BinaryIO, directory: Path, env: Mapping[str, str]
) -> Ending:
    """Runs a command in a process group of its own; what it prints goes to `log`.

    After `limit_s` seconds its Python processes write where they stand, if they have PYTHONFAULTHANDLER, and
    then the whole group is killed. The group is also killed when the command ends by itself, or when this
    call is interrupted: nothing of it uses the GPU any more.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        words, cwd=directory, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
    )
    # A core file of a process with a GPU is as large as its memory.
    with suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    status: int | None = None
    try:
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(limit_s)
        if status is None:
            _signal(process.pid, signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_WORDS_S)
    finally:
        _signal(process.pid, signal.SIGKILL)
        gone = _wait_until_gone(process)
    return Ending(status, time.monotonic() - began, left_behind=not gone)


def _wait_until_gone(leader: subprocess.Popen[bytes]) -> bool:
    """Waits for the end of all processes of a killed group, which hold the GPU's memory until then; returns
    whether they have ended in time.
    """
    end = time.monotonic() + _REAP_S
    while True:
        leader.poll()
        if leader.pid not in _living_groups():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)


def _living_groups() -> set[int]:
    """The process groups of which a process lives; one that only waits to be reaped does not."""
    groups = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if state != "Z":
                groups.add(int(group))
    return groups


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
