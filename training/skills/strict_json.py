"""Standard JSON, and equality of its values."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def read_json(text: str) -> Any:
    """Parses standard JSON. ValueError for other text, NaN and infinities included, and for objects with
    duplicate keys.
    """
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)


def canonical_json(value: Any) -> str:
    """A form that is equal only for equal values: the order of keys is ignored, 1 equals 1.0, and 1 differs
    from true.
    """
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
