"""The stages of one request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

# A batch has the stages of each of its prompts, and a trace is to stay small.
_MOST_STAGES = 64


class Stage(NamedTuple):
    """A part of a request's time, from `began` to `ended`, in seconds of the timeline's clock."""

    name: str
    began: float
    ended: float


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
        ended = max(began, ended)
        self.totals[name] = self.totals.get(name, 0.0) + ended - began
        if len(self.stages) < _MOST_STAGES:
            self.stages.append(Stage(name, began, ended))

    def seconds(self, name: str) -> float:
        """How long the stages of this name took together."""
        return self.totals.get(name, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the block as a stage, by the monotonic clock."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(name, began, time.monotonic())
