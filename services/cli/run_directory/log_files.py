"""The logs of a suite, read together."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from services.cli.run_directory.log_line import LogLine

_MOST_READ = 1 << 20


class LogFile:
    """One service's log, read on from where the last call ended; from the start if it was emptied."""

    def __init__(self, directory: Path, service: str) -> None:
        self.service = service
        self._path = directory / f"{service}.log"
        self._offset = 0
        self._time = ""

    def new_lines(self) -> Iterator[LogLine]:
        """Yields complete lines, at most 1 MiB of them; nothing if there is no file."""
        for raw in self._read().decode(errors="replace").split("\n")[:-1]:
            line = LogLine.of(self.service, raw, self._time)
            self._time = line.time
            yield line

    def all_lines(self) -> Iterator[LogLine]:
        """Yields complete lines up to the present end."""
        while lines := list(self.new_lines()):
            yield from lines

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                # A suite that starts empties the logs.
                self._offset = 0 if size < self._offset else self._offset
                file.seek(self._offset)
                text = file.read(_MOST_READ)
        except OSError:
            return b""
        # A line that is not complete is read again, unless it is longer than any of ours.
        whole = text.rfind(b"\n") + 1
        if not whole and len(text) == _MOST_READ:
            self._offset += len(text)
            return text + b"\n"
        self._offset += whole
        return text[:whole]


class Logs:
    """The logs of several services, in the order in which things happened."""

    def __init__(self, directory: Path, services: Sequence[str]) -> None:
        self._files = [LogFile(directory, service) for service in services]

    def all_lines(self) -> Iterator[LogLine]:
        """Yields the lines up to the present end of each log."""
        return _in_order(file.all_lines() for file in self._files)

    def new_lines(self) -> Iterator[LogLine]:
        """Yields lines that have been added since."""
        return _in_order(list(file.new_lines()) for file in self._files)


def _in_order(logs: Iterable[Iterable[LogLine]]) -> Iterator[LogLine]:
    return heapq.merge(*logs, key=lambda line: line.time)
