"""The literals of an `enum`, checked against the `type` beside it."""

from __future__ import annotations

from collections.abc import Sequence

from services.families.conversation import Json

# bool is an int to Python, and the published encoder lets it pass as one.
_CHECKED: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
}


def write_enum(values: Sequence[Json], kind: Json) -> str:
    """The members, strings in quotes that nothing escapes, the rest as Python's `str` spells it.

    Raises ValueError where a member is not of the type `kind`, or `kind` lists several types besides null.
    """
    expected = _CHECKED.get(_single_type(kind))
    if expected:
        for value in values:
            if value is not None and not isinstance(value, expected):
                raise ValueError(f"enum member {value!r} is not of type {kind!r}")
    return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)


def _single_type(kind: Json) -> str:
    if not isinstance(kind, list):
        return kind if isinstance(kind, str) else ""
    if len(kind) == 1 or (len(kind) == 2 and "null" in kind):
        return next((str(name) for name in kind if name != "null"), "null")
    raise ValueError(f"an enum cannot be of the types {kind}")
