"""Runs cases: all of them for correctness first, then all again for time, until the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from kernels.benchmarks.case import Case, Cases
from kernels.benchmarks.ceilings import Ceilings
from kernels.benchmarks.row import Row
from kernels.benchmarks.sizes import Sizes
from kernels.benchmarks.timer import Timer


class Check:
    """The cases of some kernels at some sizes.

    A failure in a case becomes a note in its row, and the other cases continue; a case for which no time is
    left is "not run" or has no times, with a note. Tolerances are multiplied by `slack`. `save` gets all rows
    before each case is run, because a case that hangs ends the process.
    """

    def __init__(
        self,
        benches: Mapping[str, Cases],
        sizes: Sizes,
        device: torch.device,
        seconds: float,
        slack: float,
        save: Callable[[Sequence[Row]], object] = lambda rows: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._benches = benches
        self._sizes = sizes
        self._device = device
        self._slack = slack
        self._save = save
        self._clock = clock
        self._end = clock() + seconds
        self._rows: dict[tuple[str, str, str], Row] = {}

    @property
    def rows(self) -> list[Row]:
        """One row for each case, in the order in which they were first reached."""
        return list(self._rows.values())

    @property
    def failed(self) -> bool:
        """Whether one of our results was wrong, or one of our cases raised."""
        return any(row.verdict in ("WRONG", "failed") for row in self.rows if not row.by)

    def compare(self) -> None:
        """Compares every case's result with its reference."""
        self._each(lambda case, row: row.compare(case, self._slack))

    def time(self, timer: Timer, ceilings: Ceilings) -> None:
        """Times every case that gave the right result."""

        def time_one(case: Case, row: Row) -> None:
            if row.verdict == "right":
                row.time(case, timer.seconds(case.run, case.copies), ceilings)
            if case.by:
                row.compare_times(self._row(case.kernel, case.shape))

        self._each(time_one)

    def _each(self, act: Callable[[Case, Row], None]) -> None:
        for name, cases in self._benches.items():
            iterator = cases(self._sizes, self._device)
            while self._next(name, iterator, act):
                pass

    def _next(self, name: str, iterator: Iterator[Case], act: Callable[[Case, Row], None]) -> bool:
        """Runs the next case. Returns whether there was one and its kernel may have more."""
        if self._clock() > self._end:
            self._row(name, "further cases").note = "no time was left"
            return False
        row = None
        try:
            # Referenced nowhere else, so that its inputs are freed before the next case's are made.
            case = next(iterator, None)
            if case is None:
                return False
            row = self._row(case.kernel, case.shape, case.by)
            self._save(self.rows)
            act(case, row)
        except Exception as error:  # noqa: BLE001 - barrier: the other cases must still be checked
            failed = row or self._row(name, "inputs")
            failed.verdict, failed.note = "failed", repr(error)
            return row is not None
        return True

    def _row(self, kernel: str, shape: str, by: str = "") -> Row:
        return self._rows.setdefault((kernel, shape, by), Row(kernel, shape, by))
