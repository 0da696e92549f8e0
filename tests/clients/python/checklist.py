"""What the scripts of Python's clients share: assertions by name, each reported as a line of JSON."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel, Field

MODEL = "kimi-nano"
QUESTION = "Which one is bigger, 9.11 or 9.9?"
ANSWER = "9.9 is bigger."
WEATHER = "What is the weather in Paris?"
WEATHER_RESULT = '{"city": "Paris", "sky": "sunny", "celsius": 22}'
TWO_WEATHERS = "What is the weather in Paris and Rome?"
TWO_CALLS = [("functions.get_weather:0", {"city": "Paris"}), ("functions.get_weather:1", {"city": "Rome"})]
PLACES = "Name a place."
NOTE = "Write a note."
# An answer that goes on: greedy, and its end is no end.
ENDLESS = {"ignore_eos": True}
# Its arguments are long, so that they come in pieces.
TEXT = {"type": "string", "minLength": 200, "maxLength": 240}


def function(name: str, description: str, properties: dict) -> dict:
    """A tool, all of whose properties are required."""
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


GET_WEATHER = function("get_weather", "Get the current weather of a city", {"city": {"type": "string"}})
WRITE_NOTE = function("write_note", "Write a note", {"text": TEXT})


class Place(BaseModel):
    """A place"""

    name: str = Field(max_length=20)
    people: int = Field(ge=0, le=99)


class Note(BaseModel):
    """Write a note"""

    text: str = Field(min_length=200, max_length=240)


@dataclass(frozen=True)
class Suite:
    """Where the suite is, and a gateway that is full."""

    url: str
    busy_url: str

    def idle(self) -> bool:
        """Whether gateway and workers have no request."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as page:
            text = page.read().decode()
        counts = re.findall(r"^perigee_requests_(?:running|waiting)(?:\{.*\})? (\S+)$", text, re.MULTILINE)
        assert counts, text
        return not any(map(float, counts))

    def seconds_until_idle(self) -> float:
        """How long it takes until gateway and workers have no request; raises AssertionError after 20 s."""
        started = time.monotonic()
        while not self.idle():
            assert time.monotonic() < started + 20, "requests are still running after 20 s"
            time.sleep(0.02)  # another process is waited for
        return time.monotonic() - started


class Checklist:
    """The assertions of one client."""

    def __init__(self) -> None:
        self.suite = Suite(*sys.argv[1:3])
        self._assertions: dict[str, Callable[[], object]] = {}
        self._pieces: Callable[[], Iterable[str]] | None = None

    def holds(self, name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
        """Registers an assertion: it holds if the function returns; what it returns is reported."""

        def register(assertion: Callable[[], object]) -> Callable[[], object]:
            self._assertions[name] = assertion
            return assertion

        return register

    def streams(self, pieces: Callable[[], Iterator[str]]) -> Callable[[], Iterator[str]]:
        """Registers the function that streams a long answer, for the cancelled and the stopped."""
        self._pieces = pieces

        @self.holds("cancel")
        def cancel() -> str:
            stream = pieces()
            for _ in range(3):
                next(stream)
            assert not self.suite.idle()
            stream.close()
            seconds = self.suite.seconds_until_idle()
            assert seconds < 1, f"{seconds:.2f} s"
            return f"{seconds:.2f} s"

        return pieces

    def run(self) -> None:
        """Checks all assertions, or streams once through a stop of a worker."""
        if sys.argv[3:] == ["--stream"]:
            self._stream()
            return
        for name, assertion in self._assertions.items():
            started = time.monotonic()
            try:
                report = {"holds": True, "detail": str(assertion() or "")}
            except BaseException:  # noqa: BLE001 - a script reports all of its assertions
                report = {"holds": False, "detail": traceback.format_exc()}
            tell(assertion=name, seconds=round(time.monotonic() - started, 2), **report)

    def _stream(self) -> None:
        """Says when it is ready, streams when it is told to, says what its first piece is, and then all."""
        assert self._pieces is not None
        tell(ready=True)
        sys.stdin.readline()
        text = ""
        for piece in self._pieces():
            if piece and not text:
                tell(first=piece)
            text += piece
        tell(text=text)


# What clients print goes to stderr, and stands in no line of ours.
_LINES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def tell(**fields: object) -> None:
    """Writes a line of JSON to stdout."""
    print(json.dumps(fields), file=_LINES, flush=True)


def raised(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    """The exception of that type, or of one below it, that `call` raises; else raises AssertionError."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")
