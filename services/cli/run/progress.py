"""Shows the state of each service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TextIO

_LINE_S = 30.0
# So long after the start, somebody waits and gets a line at least every _SILENCE_S.
_AWAITED_S, _SILENCE_S = 60.0, 7.0
_UP_AND_CLEAR = "\x1b[{count}A\x1b[J"


class Progress:
    """One line per role: redrawn in place on a terminal, printed again elsewhere."""

    def __init__(
        self, out: TextIO, roles: Iterable[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._next: dict[str, float] = {}
        self._out = out
        self._terminal = out.isatty()
        self._lines = dict.fromkeys(roles, "")
        self._width = max(len(role) for role in self._lines) + 3
        self._drawn = 0

    def update(self, role: str, text: str) -> None:
        """Shows the new state of a role."""
        self._lines[role] = text
        if self._terminal and self._drawn:
            self._draw()
        elif not self._terminal:
            self._write(self._line(role))

    def update_in_place(self, role: str, text: str, *, worth_a_line: bool = False) -> None:
        """Shows the new state of a role on a terminal, where it takes no new line; elsewhere only if it is
        `worth_a_line`, and at most every 30 s, or in the first minute if nothing was printed for 7 s.
        """
        self._lines[role] = text
        if self._terminal and self._drawn:
            self._draw()
        elif not self._terminal and (self._silent() or (worth_a_line and self._due(role))):
            self._next[role] = self._clock() + _LINE_S
            self._write(self._line(role))

    def begin(self) -> None:
        """Starts redrawing the lines in place."""
        self._draw()

    def end(self) -> None:
        """Stops redrawing the lines; later updates are printed as new lines."""
        self._drawn = 0
        self._terminal = False

    def print(self, text: str) -> None:
        """Prints one or more lines above the redrawn ones."""
        self._write(text)
        if self._terminal and self._drawn:
            self._drawn = 0
            self._draw()

    def _due(self, role: str) -> bool:
        return self._clock() >= self._next.get(role, 0.0)

    def _silent(self) -> bool:
        now = self._clock()
        return now - self._began < _AWAITED_S and now - self._last >= _SILENCE_S

    def _draw(self) -> None:
        if not self._terminal:
            return
        if self._drawn:
            self._out.write(_UP_AND_CLEAR.format(count=self._drawn))
        self._drawn = len(self._lines)
        self._write("\n".join(self._line(role) for role in self._lines))

    def _line(self, role: str) -> str:
        return f"  {role:<{self._width}}{self._lines[role]}"

    def _write(self, text: str) -> None:
        self._last = self._clock()
        self._out.write(text + "\n")
        self._out.flush()
