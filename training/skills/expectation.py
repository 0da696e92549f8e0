"""The definition of a right answer, with which any answer can be scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from training.skills.numbers import numbers_in
from training.skills.strict_json import canonical_json, read_json

Kind = Literal["first number", "last number", "contains", "exact", "json", "calls"]


@dataclass(frozen=True)
class Call:
    """A tool call: the function's name and its arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Expectation:
    """The criterion of a right answer. `values` applies to texts: the number, the substrings, the text or the
    JSON text. `calls` requires exactly these calls, in any order; all other kinds require that there are
    none.
    """

    kind: Kind
    values: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()

    def met_by(self, content: str, calls: Sequence[Call]) -> bool:
        """Whether the text and calls of an answer are right."""
        if self.kind == "calls":
            return sorted(map(_key, calls)) == sorted(map(_key, self.calls))
        return not calls and _CHECKS[self.kind](content, self.values)


def _key(call: Call) -> str:
    return canonical_json([call.name, call.arguments])


def _first_number(content: str, values: tuple[str, ...]) -> bool:
    return numbers_in(content)[:1] == numbers_in(values[0])


def _last_number(content: str, values: tuple[str, ...]) -> bool:
    return numbers_in(content)[-1:] == numbers_in(values[0])


def _contains(content: str, values: tuple[str, ...]) -> bool:
    """Whether each value occurs as whole words. If some are numbers, no other number may occur: "2 or 3" is
    not 3.
    """
    wanted = {number for value in values for number in numbers_in(value)}
    if wanted and not wanted.issuperset(numbers_in(content)):
        return False
    return all(re.search(_as_words(value), content, re.IGNORECASE) for value in values)


def _as_words(value: str) -> str:
    """A pattern for `value` with no letter or digit next to it. 5 is not found in 5.2, -5, 1,005 or 5-6."""
    before = r"(?<![\w])(?<!\d[.,])" + (r"(?<![-−.])" if value[0].isdigit() else "")
    after = r"(?!\w)(?![.,]\d)" + (r"(?![-−]\d)" if value[-1].isdigit() else "")
    return before + re.escape(value) + after


def _exact(content: str, values: tuple[str, ...]) -> bool:
    return content.strip() == values[0]


def _json(content: str, values: tuple[str, ...]) -> bool:
    try:
        return canonical_json(read_json(content)) == canonical_json(read_json(values[0]))
    except ValueError:
        return False


_CHECKS = {
    "first number": _first_number,
    "last number": _last_number,
    "contains": _contains,
    "exact": _exact,
    "json": _json,
}
