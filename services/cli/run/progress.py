"""What each service is doing, on the screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

_UP_AND_CLEAR = "\x1b[{count}A\x1b[J"


class Progress:
    """One line per role: redrawn in place on a terminal, printed anew elsewhere."""

    def __init__(self, out: TextIO, roles: Iterable[str]) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._lines = dict.fromkeys(roles, "")
        self._width = max(len(role) for role in self._lines) + 3
        self._drawn = 0

    def update(self, role: str, text: str) -> None:
        """The new state of a role."""
        self._lines[role] = text
        if self._terminal and self._drawn:
            self._draw()
        elif not self._terminal:
            self._print(self._line(role))

    def glimpse(self, role: str, text: str) -> None:
        """As `update`, but not worth a line of its own."""
        self._lines[role] = text
        if self._terminal and self._drawn:
            self._draw()

    def begin(self) -> None:
        """From now on the block is redrawn in place."""
        self._draw()

    def end(self) -> None:
        """The block stays as it is; later updates are lines of their own."""
        self._drawn = 0
        self._terminal = False

    def say(self, text: str) -> None:
        """A line, or several, for people."""
        self._print(text)
        if self._terminal and self._drawn:
            self._drawn = 0
            self._draw()

    def _draw(self) -> None:
        if not self._terminal:
            return
        if self._drawn:
            self._out.write(_UP_AND_CLEAR.format(count=self._drawn))
        self._drawn = len(self._lines)
        self._print("\n".join(self._line(role) for role in self._lines))

    def _line(self, role: str) -> str:
        return f"  {role:<{self._width}}{self._lines[role]}"

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
