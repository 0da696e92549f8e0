"""One answer as a whole: its texts, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from services.common.client import Content, Finished, Piece, Reasoning, ToolCallPart, Used


@dataclass(frozen=True)
class Timing:
    """Seconds to the first piece, and from that to the last; and the tokens generated."""

    first_s: float
    rest_s: float
    tokens: int

    @property
    def total_s(self) -> float:
        """From asking to the last piece."""
        return self.first_s + self.rest_s

    @property
    def tokens_per_second(self) -> float | None:
        """The rate over the whole time, for the first piece may hold many tokens. None without tokens."""
        return self.tokens / self.total_s if self.tokens and self.total_s > 0 else None

    def line(self) -> str:
        """Returns it for people."""
        rate = self.tokens_per_second
        shown = "" if rate is None else f", {rate:.1f} tokens/s"
        return f"[first token after {self.first_s:.2f} s; {self.total_s:.2f} s in all{shown}]"


class Answer:
    """Collects the pieces of an answer of one choice."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.content = ""
        self.reasoning = ""
        self.finish = ""
        self.usage: Used | None = None
        self._calls: dict[int, dict[str, str]] = {}
        self._clock = clock
        self._asked = clock()
        self._first = self._last = self._asked

    def collect(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Yields the pieces as they come."""
        for piece in pieces:
            if isinstance(piece, Content | Reasoning | ToolCallPart):
                self._last = self._clock()
                self._first = self._last if self._first == self._asked else self._first
            self._add(piece)
            yield piece

    @property
    def timing(self) -> Timing:
        """How long it took."""
        tokens = 0 if self.usage is None else self.usage.completion_tokens
        return Timing(self._first - self._asked, self._last - self._first, tokens)

    def as_json(self, *, timing: bool) -> dict[str, Any]:
        """Returns it for programs, by the names of the REST API."""
        found: dict[str, Any] = {"content": self.content, "reasoning_content": self.reasoning}
        if self._calls:
            found["tool_calls"] = list(self._calls.values())
        found["finish_reason"] = self.finish
        if self.usage is not None:
            found["usage"] = {
                "prompt_tokens": self.usage.prompt_tokens,
                "cached_tokens": self.usage.cached_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "reasoning_tokens": self.usage.reasoning_tokens,
            }
        if timing:
            found["timing"] = {
                "first_token_seconds": round(self.timing.first_s, 4),
                "seconds": round(self.timing.total_s, 4),
                "tokens_per_second": self.timing.tokens_per_second,
            }
        return found

    def _add(self, piece: Piece) -> None:
        match piece:
            case Content(text):
                self.content += text
            case Reasoning(text):
                self.reasoning += text
            case ToolCallPart(index, call_id, name, arguments):
                call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
                for key, text in (("id", call_id), ("name", name), ("arguments", arguments)):
                    call[key] += text
            case Finished(reason):
                self.finish = reason
            case Used():
                self.usage = piece
