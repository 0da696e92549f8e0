"""The findings of one case of the slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

TOLERANCE = 3e-2
"""Largest error, as a share of the norm of the logits: bfloat16 in four layers, against float32."""


@dataclass
class Row:
    """One comparison or measurement; an empty text was not measured."""

    what: str
    verdict: str = ""
    microseconds: str = ""
    limit_microseconds: str = ""
    times_the_limit: str = ""
    host_microseconds: str = ""
    tokens_per_second: str = ""
    note: str = ""

    def compare(self, found: Tensor, wanted: Tensor) -> None:
        """Records whether logits are near enough."""
        error = ((found - wanted).norm() / wanted.norm()).item()
        self.judge(error <= TOLERANCE)
        self.note = f"error {error:.1e} of {TOLERANCE:.0e}"

    def judge(self, right: bool) -> None:
        """Records a verdict."""
        self.verdict = "right" if right else "WRONG"

    def time(self, device: float, host: float, limit: float, tokens: int) -> None:
        """Records the seconds that the device takes for so many tokens, those that the host takes to enqueue
        them, and the limit.
        """
        self.microseconds, self.limit_microseconds = f"{1e6 * device:.0f}", f"{1e6 * limit:.0f}"
        self.times_the_limit = f"{device / limit:.2f}"
        self.host_microseconds = f"{1e6 * host:.0f}"
        self.tokens_per_second = f"{tokens / device:.0f}"


Cases: TypeAlias = Iterator[tuple[str, Callable[[Row], None]]]
"""The name of a row, and the function that fills it."""
