"""JSON as the standard has it, and when two values of it are the same."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def read_json(text: str) -> Any:
    """ValueError for what is no JSON, NaN and the infinities among it, and for an object with a key twice."""
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)


def canonical_json(value: Any) -> str:
    """Equal for the same values alone: keys in any order, 1 and 1.0 are one number, 1 and true are not."""
    return json.dumps(_plain(value), sort_keys=True)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an object has a key twice")
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
