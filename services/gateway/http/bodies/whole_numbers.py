"""Whole numbers that a client writes as floats, such as 16.0."""

from __future__ import annotations

import re
from typing import Any

import msgspec

# A body has few fields that are whole numbers; each may take one round.
_MOST_ROUNDS = 64
_FLOAT_FOR_INT = re.compile(r"^Expected `int(?: \| \w+)*`, got `float` - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]")


def decode_whole_floats(body: bytes, schema: type[Any], error: msgspec.ValidationError) -> Any:
    """The body, decoded as `schema`, where `error` says that a float stands in the place of a whole number.

    Floats that are whole, in such places, count as the number. Raises ValidationError for whatever else.
    """
    if _FLOAT_FOR_INT.match(str(error)) is None:
        raise error
    document = msgspec.json.decode(body)
    for _ in range(_MOST_ROUNDS):
        found = _FLOAT_FOR_INT.match(str(error))
        if found is None or not _make_whole(document, found["path"]):
            raise error
        try:
            return msgspec.convert(document, schema)
        except msgspec.ValidationError as next_error:
            error = next_error
    raise error


def _make_whole(document: Any, path: str) -> bool:
    """Replaces the float at the path, if it is whole; whether it was."""
    place: Any = None
    value: Any = document
    key: str | int = ""
    for step in _STEP.finditer(path):
        place, key = value, step["key"] if step["index"] is None else int(step["index"])
        try:
            value = place[key]
        except (KeyError, IndexError, TypeError):
            return False
    if not isinstance(value, float) or not value.is_integer():
        return False
    place[key] = int(value)
    return True
