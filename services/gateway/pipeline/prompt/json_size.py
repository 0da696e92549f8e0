"""How long a JSON value is, without writing it."""

from __future__ import annotations

from typing import Any

# Quotes, a comma and the like; a bound on how many values are looked at, too.
_PER_VALUE = 4


def json_characters(value: Any, most: int) -> int:
    """Roughly the characters of its JSON, however deep it is; stops counting soon beyond `most`."""
    count = 0
    unseen = [value]
    while unseen and count <= most:
        each = unseen.pop()
        count += _PER_VALUE
        if isinstance(each, str):
            count += len(each)
        elif isinstance(each, dict):
            count += sum(map(len, each))
            unseen.extend(each.values())
        elif isinstance(each, list | tuple):
            unseen.extend(each)
    return count
