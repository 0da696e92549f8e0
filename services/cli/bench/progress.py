"""Shows how far a benchmark is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from services.cli.bench.metrics import Spread
from services.cli.bench.records import Began, Ended, Record, Request

_EVERY_S = 5.0


class Progress(Protocol):
    """Is given every record."""

    def show(self, record: Record) -> None:
        """Takes one record into account."""
        ...

    def close(self) -> None:
        """Leaves the terminal as it was."""
        ...


class Counts:
    """What has happened in the run so far."""

    def __init__(self, began: Began) -> None:
        self.began = began
        self.total = began.requests * max(began.rounds, 1)
        self.done = self.failed = self.tokens = 0
        self._firsts: list[float] = []

    def add(self, request: Request) -> None:
        """Counts a request."""
        self.done += 1
        self.failed += bool(request.error)
        self.tokens += request.output_tokens
        if request.ttft_s is not None:
            self._firsts.append(request.ttft_s)

    def describe(self) -> str:
        """Returns the counts as text."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.tokens:,} tokens, TTFT {Spread.of(self._firsts).p50:.0f} ms{failed}"


class LineProgress:
    """Prints a line when a run begins and ends, and one every five seconds."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._last = clock()
        self._counts: Counts | None = None

    def show(self, record: Record) -> None:
        """Prints what is due."""
        if isinstance(record, Began):
            self._counts = Counts(record)
            self._print(f"{record.label}: {record.scenario} at scale {record.scale:g} ...")
        elif self._counts is not None and isinstance(record, Request):
            self._counts.add(record)
            if self._clock() - self._last >= _EVERY_S:
                self._print(f"  {self._counts.done} of {self._counts.total}: {self._counts.describe()}")
        elif self._counts is not None and isinstance(record, Ended):
            self._print(f"  done in {record.seconds:.1f} s: {self._counts.describe()}")

    def close(self) -> None:
        """Does nothing."""

    def _print(self, line: str) -> None:
        self._last = self._clock()
        print(line, file=self._out, flush=True)


class BarProgress:
    """A bar per run, by rich."""

    def __init__(self, rich_progress: Any) -> None:
        self._bars = rich_progress
        self._bars.start()
        self._bar: Any = None
        self._counts: Counts | None = None

    def show(self, record: Record) -> None:
        """Moves the bar."""
        if isinstance(record, Began):
            self._counts = counts = Counts(record)
            title = f"{record.label} {record.scenario} ×{record.scale:g}"
            self._bar = self._bars.add_task(title, total=counts.total, counts="")
        elif self._counts is not None and isinstance(record, Request):
            self._counts.add(record)
            self._bars.update(self._bar, completed=self._counts.done, counts=self._counts.describe())

    def close(self) -> None:
        """Leaves the bars as they are."""
        self._bars.stop()


def progress_on(stream: TextIO | None = None) -> Progress:
    """Returns bars on a terminal if rich is installed, else lines."""
    out = stream or sys.stderr
    if out.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars
        except ModuleNotFoundError:
            return LineProgress(out)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[counts]}"),
        )
        return BarProgress(Bars(*columns, console=Console(file=out)))
    return LineProgress(out)
