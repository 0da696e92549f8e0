"""What is reported: each row is one must-show of the model, over held-out cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.skills.curriculum import Curriculum
from training.skills.sample import Sample


@dataclass(frozen=True)
class Row:
    """`skills`: of the curriculum, taken in turns; `thinking`: only cases of that mode, None: both;
    `target`: the share that is aimed at.
    """

    name: str
    skills: tuple[str, ...]
    target: float
    thinking: bool | None = None

    def cases(self, curriculum: Curriculum, count: int) -> Iterator[Sample]:
        """The first `count` held-out cases, the same each time."""
        sources = [self._of_mode(curriculum, skill) for skill in self.skills]
        for index in range(count):
            yield next(sources[index % len(sources)])

    def _of_mode(self, curriculum: Curriculum, skill: str) -> Iterator[Sample]:
        number = 0
        while True:
            sample = curriculum.case(skill, number)
            number += 1
            if self.thinking in (None, sample.conversation.thinking):
                yield sample


_TOOL_CALLS = ("tool call", "tool call", "parallel calls", "no call")

ROWS = (
    Row("compare, thinking", ("compare",), 0.98, True),
    Row("compare, instant", ("compare",), 0.95, False),
    Row("arithmetic and stories", ("arithmetic", "stories"), 0.90, True),
    Row("tool calls", _TOOL_CALLS, 0.95, True),
    Row("tool calls, instant", _TOOL_CALLS, 0.95, False),
    Row("tool results", ("weather result", "other result"), 0.95),
    Row("pictures", ("total", "describe", "totals"), 0.90),
    Row("product search", ("search product",), 0.90),
    Row("chat and small tasks", ("chatter", "copy", "count", "sort", "json"), 0.95),
)
