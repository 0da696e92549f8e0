"""The rows of the report: each scores one required ability of the model over held-out cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from evals.request import chat_body
from training.skills.curriculum import Curriculum
from training.skills.sample import Sample

_MOST_DRAWS = 10_000


@dataclass(frozen=True)
class Row:
    """One row of the report.

    `skills` are names in the curriculum, used in turns, so a skill listed twice gives twice as many cases.
    `thinking` restricts the cases to one mode; None takes both. `target` is the accuracy to reach.
    """

    name: str
    skills: tuple[str, ...]
    target: float
    thinking: bool | None = None

    def cases(self, curriculum: Curriculum, count: int) -> Iterator[Sample]:
        """The first `count` held-out cases, the same ones on each call and no two alike, so that their count
        is the sample size. ValueError if a skill has too few.
        """
        sources = {skill: self._distinct(curriculum, skill) for skill in self.skills}
        for index in range(count):
            yield next(sources[self.skills[index % len(self.skills)]])

    def _distinct(self, curriculum: Curriculum, skill: str) -> Iterator[Sample]:
        seen: set[str] = set()
        for number in range(_MOST_DRAWS):
            sample = curriculum.case(skill, number)
            asked = json.dumps(chat_body(sample.conversation, "", 0), sort_keys=True)
            if self.thinking in (None, sample.conversation.thinking) and asked not in seen:
                seen.add(asked)
                yield sample
        raise ValueError(f"{_MOST_DRAWS} draws gave only {len(seen)} different cases of {skill}")


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
