"""The stages of one request."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TypeAlias

# A batch has the stages of each of its prompts, and a trace is to stay small.
_MOST_STAGES = 64


Stage: TypeAlias = tuple[str, float, float]
"""Name, begin and end of a part of a request's time, in seconds of the timeline's clock."""


class Timeline:
    """Stages in the order in which they ended, and how long those of a name took together.

    Filled a few times per request and never per token. Stages may overlap or lie within each other. It keeps
    the first 64 of them; the totals have all.
    """

    __slots__ = ("stages", "totals")

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.totals: dict[str, float] = {}

    def add(self, name: str, began: float, ended: float) -> None:
        """Adds a stage; one that ends before it begins has no length."""
        if ended < began:
            ended = began
        totals = self.totals
        totals[name] = totals.get(name, 0.0) + ended - began
        if len(self.stages) < _MOST_STAGES:
            self.stages.append((name, began, ended))

    def seconds(self, name: str) -> float:
        """How long the stages of this name took together."""
        return self.totals.get(name, 0.0)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Adds the block as a stage, by the monotonic clock, whether it fails or not."""
        return _Block(self, name)


class _Block:
    """A block that is a stage. A generator would take three times as long."""

    __slots__ = ("_began", "_name", "_timeline")

    def __init__(self, timeline: Timeline, name: str) -> None:
        self._timeline = timeline
        self._name = name

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._timeline.add(self._name, self._began, time.monotonic())
