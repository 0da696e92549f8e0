"""A process whose lines are kept with the times at which they came."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.first_hour.failed import Failed

_KILL_S = 60.0


@dataclass(frozen=True)
class Line:
    """`at`: seconds after the start of the process."""

    at: float
    text: str


class Watched:
    """A process in a group of its own, as a terminal starts one. A context manager: kills what is left."""

    def __init__(self, command: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
        self._began = time.monotonic()
        self.lines: list[Line] = []
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def text(self) -> str:
        """All that it has printed."""
        return "\n".join(line.text for line in self.lines)

    def until(self, pattern: str, timeout_s: float) -> Line:
        """Returns the first line that has `pattern`. Raises Failed if the time passes or the process ends
        without one.
        """
        give_up = time.monotonic() + timeout_s
        while True:
            # Asked first: a process that has ended prints nothing after its lines were searched.
            ended = not self._reader.is_alive()
            for line in list(self.lines):
                if re.search(pattern, line.text):
                    return line
            if ended or time.monotonic() > give_up:
                last = " / ".join(line.text.strip() for line in self.lines[-4:])
                raise Failed(
                    f"{'it ended' if ended else f'{timeout_s:.0f} s passed'} without {pattern!r}: {last}"
                )
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Does what Ctrl-C does: the whole group gets SIGINT."""
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self, timeout_s: float) -> None:
        """Waits for the end. Raises Failed if it does not come in time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"it has not ended after {timeout_s:.0f} s") from None
        self._reader.join(timeout_s)

    def kill(self) -> None:
        """Ends the group at once."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(_KILL_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self.lines.append(Line(time.monotonic() - self._began, text.rstrip("\n")))


def longest_silence(lines: Sequence[Line]) -> float:
    """Returns the longest time, in seconds, without a line: from the start of the process to the last one."""
    times = [0.0, *(line.at for line in lines)]
    return max((after - before for before, after in itertools.pairwise(times)), default=0.0)
