"""What a right answer is, so that any reader of an answer can score it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
Kind = Literal["first number", "last number", "contains", "exact", "json", "calls"]


@dataclass(frozen=True)
class Call:
    """A tool call: the function's name and its arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Expectation:
    """`values` for texts: the number, the pieces, the text or the JSON text; `calls`: exactly these, in any
    order, and for the other kinds none.
    """

    kind: Kind
    values: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()

    def met_by(self, content: str, calls: Sequence[Call]) -> bool:
        """Whether an answer's text and calls are right."""
        if self.kind == "calls":
            return sorted(map(_key, calls)) == sorted(map(_key, self.calls))
        return not calls and _CHECKS[self.kind](content, self.values)


def _key(call: Call) -> str:
    return json.dumps([call.name, call.arguments], sort_keys=True)


def _first_number(content: str, values: tuple[str, ...]) -> bool:
    return _NUMBER.findall(content)[:1] == list(values)


def _last_number(content: str, values: tuple[str, ...]) -> bool:
    return _NUMBER.findall(content)[-1:] == list(values)


def _contains(content: str, values: tuple[str, ...]) -> bool:
    """Each as whole words: no letter or digit goes on at its ends, and 5 is not found in 5.2."""
    return all(
        re.search(rf"(?<![\w])(?<!\d\.){re.escape(value)}(?!\w)(?!\.\d)", content, re.IGNORECASE)
        for value in values
    )


def _exact(content: str, values: tuple[str, ...]) -> bool:
    return content.strip() == values[0]


def _json(content: str, values: tuple[str, ...]) -> bool:
    try:
        return bool(json.loads(content) == json.loads(values[0]))
    except ValueError:
        return False


_CHECKS = {
    "first number": _first_number,
    "last number": _last_number,
    "contains": _contains,
    "exact": _exact,
    "json": _json,
}
