"""Runs the check of the slice, row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.slice_row import Cases, Row


class SliceCheck:
    """Rows of one part after another. A failure becomes a note in its row, and the other rows continue.

    Rows for which no time is left after `seconds` are not run. `save` gets all rows before each is filled,
    because a kernel that hangs ends the process.
    """

    def __init__(
        self,
        seconds: float,
        save: Callable[[Sequence[Row]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows: list[Row] = []
        self._clock = clock
        self._end = clock() + seconds
        self._save = save

    @property
    def failed(self) -> bool:
        """Whether logits were wrong, or a case raised."""
        return any(row.verdict in ("WRONG", "failed") for row in self.rows)

    def run(self, part: str, cases: Cases) -> None:
        """Runs all cases of a part."""
        while self._next(part, cases):
            pass

    def _next(self, part: str, cases: Cases) -> bool:
        """Runs the next case. Returns whether there may be another one."""
        row = Row(part)  # until the case names itself
        self.rows.append(row)
        if self._clock() > self._end:
            row.note = "not run: no time was left"
            return False
        self._save(self.rows)
        try:
            case = next(cases, None)
            if case is None:
                self.rows.pop()
                return False
            row.what, fill = case
            self._save(self.rows)
            fill(row)
        except torch.OutOfMemoryError as error:
            row.note = f"not run: {str(error).splitlines()[0]}"
        except Exception as error:  # noqa: BLE001 - barrier: the other rows must still be filled
            row.verdict, row.note = "failed", repr(error)
        return True
