"""Runs a command quietly: its output goes to a log, and the narrator prints lines of its own."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from scripts.environment.narrator import BEAT_S, Narrator

_TAIL_LINES = 15


class CommandFailed(Exception):
    """`output`: all that the command wrote."""

    def __init__(self, command: Sequence[str], status: int, output: list[str], log: Path) -> None:
        tail = "\n".join(output[-_TAIL_LINES:])
        shown = " ".join(command[:4])
        super().__init__(f"{shown} … ended with status {status}:\n\n{tail}\n\nAll of its output is in {log}.")
        self.output = output


class QuietCommands:
    """Runs commands one after another. `log` is begun anew."""

    def __init__(self, narrator: Narrator, log: Path) -> None:
        self._narrator = narrator
        self._log = log
        log.write_text("")

    def run(self, *command: str) -> None:
        """Raises CommandFailed if the command fails, and OSError if it cannot be started."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Unbuffered, else its lines would arrive when it has ended.
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
        assert process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        try:
            output = self._follow(lines)
            status = process.wait()
        finally:
            process.kill()  # after Ctrl-C; otherwise it has ended
        if status:
            raise CommandFailed(command, status, output, self._log)

    def _follow(self, lines: queue.Queue[str | None]) -> list[str]:
        """Returns all lines until None comes."""
        output: list[str] = []
        with self._log.open("a") as log:
            while True:
                try:
                    line = lines.get(timeout=BEAT_S / 5)
                except queue.Empty:
                    self._narrator.beat()
                    continue
                if line is None:
                    return output
                print(line, file=log, flush=True)
                output.append(line)
                self._narrator.pip_says(line)


def _read(source: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in source:
        lines.put(line.rstrip("\n"))
    lines.put(None)
