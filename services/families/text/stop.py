"""Stop strings in text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """One text. Holds back only what may still become a stop string.

    The stop string that is complete first counts; of several complete at once, the longest. So the result
    does not depend on how the text is cut into pieces. Empty stop strings are ignored. After a stop, feed no
    more; `matched` is then the stop string, before that it is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.matched = ""
        self._automata = [_PrefixAutomaton(stop) for stop in stops if stop]
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that is certain now, and whether a stop string, which is left out, ended it."""
        if not self._automata:
            return text, False
        begin = len(self._held)
        text = self._held + text
        for index in range(begin, len(text)):
            longest = max(automaton.step(text[index]) for automaton in self._automata)
            if longest:
                self._held = ""
                self.matched = text[index + 1 - longest : index + 1]
                return text[: index + 1 - longest], True
        held = max(automaton.matched for automaton in self._automata)
        certain = len(text) - held
        self._held = text[certain:]
        return text[:certain], False

    def flush(self) -> str:
        """Returns the text held back, at the end of a text that no stop string ended."""
        held, self._held = self._held, ""
        for automaton in self._automata:
            automaton.matched = 0
        return held


class _PrefixAutomaton:
    """Knuth, Morris and Pratt's: `matched` is how much of the stop string the text so far ends with."""

    def __init__(self, stop: str) -> None:
        self._stop = stop
        self._borders = _borders(stop)
        self.matched = 0

    def step(self, character: str) -> int:
        """Takes one character; the stop string's length where it is now complete, else 0."""
        while self.matched and self._stop[self.matched] != character:
            self.matched = self._borders[self.matched - 1]
        if self._stop[self.matched] == character:
            self.matched += 1
        if self.matched < len(self._stop):
            return 0
        self.matched = 0
        return len(self._stop)


def _borders(text: str) -> list[int]:
    """For each prefix, the length of the longest shorter prefix that it also ends with."""
    borders = [0] * len(text)
    for index in range(1, len(text)):
        border = borders[index - 1]
        while border and text[border] != text[index]:
            border = borders[border - 1]
        borders[index] = border + (text[border] == text[index])
    return borders
