"""Bounds on how much JSON describes, checked before any of it is built.

A value takes up to a hundred times its bytes once it is an object, and a decoder builds them all before they
can be counted: some megabytes of JSON would take gigabytes, and stop every stream for seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.common.errors import InvalidRequest

# Far beyond the longest conversation with the most tools. Keys are strings, too.
MOST_CONTAINERS = 1 << 16
MOST_STRINGS = 1 << 18
# Eight prompts of token ids, each as long as the longest context.
MOST_ITEMS = 1 << 21

# With fewer bytes no bound can be passed: an empty object takes three with its comma.
_UNCOUNTED_BYTES = 3 * MOST_CONTAINERS
_OTHERS = bytes(set(range(256)) - set(b'{[",'))
_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_IS_KEY = re.compile(rb"\s*+:")
# Bytes that one match may read: other threads wait for it, less than 10 ms.
_STRIDE = 1 << 20
_MOST_NAME = 100


@dataclass
class _Counts:
    """`items`: commas, one less than there are values in an object or a list."""

    containers: int = 0
    strings: int = 0
    items: int = 0

    def excess(self) -> str:
        """The bound that is passed, in words; empty: none."""
        if self.containers > MOST_CONTAINERS:
            return f"{MOST_CONTAINERS} objects and lists"
        if self.strings > MOST_STRINGS:
            return f"{MOST_STRINGS} strings, keys included"
        return f"{MOST_ITEMS} values" if self.items > MOST_ITEMS else ""


def check_counts(json: bytes, param: str | None = None) -> None:
    """Raises InvalidRequest where `json` has more values than any request needs.

    It names `param`, or if that is None the field of the outermost object in which a bound is passed. Costs
    nothing below 192 KiB, and beyond about what a copy does, unless it has to tell what is within strings.
    Malformed JSON is left to its decoder.
    """
    if len(json) < _UNCOUNTED_BYTES:
        return
    marks = json.translate(None, _OTHERS)
    most = _Counts(marks.count(b"{") + marks.count(b"["), marks.count(b'"') // 2, marks.count(b","))
    if not most.excess():
        return
    for counts, field in _walk(json):
        excess = counts.excess()
        if excess:
            name = param or field.decode("utf-8", "replace") or None
            where = f"{name}: " if name else ""
            raise InvalidRequest(f"{where}at most {excess} are taken in a request; there are more", name)


def _walk(json: bytes) -> Iterator[tuple[_Counts, bytes]]:
    """What stands before each brace, bracket and string, and the field of the outermost object it is in."""
    counts = _Counts()
    field, depth, position = b"", 0, 0
    while position < len(json):
        found = _OUTSIDE.search(json, position, position + _STRIDE)
        end = found.start() if found else position + _STRIDE
        counts.items += json.count(b",", position, end)
        yield counts, field
        if found is None:
            position = end
            continue
        position = found.end()
        if found[0] in b"{[":
            depth += 1
            counts.containers += 1
        elif found[0] == b'"':
            counts.strings += 1
            end = _end_of_string(json, position)
            if depth == 1 and _IS_KEY.match(json, end + 1):
                field = json[position : min(end, position + _MOST_NAME)]
            position = end + 1
        else:
            depth -= 1


def _end_of_string(json: bytes, start: int) -> int:
    """Returns the index of the closing quote, or of the end of the text."""
    end = start
    while end < len(json) and json[end] != ord('"'):
        found = _INSIDE.match(json, end, end + _STRIDE)
        if found is None or found.end() == end:
            return len(json)  # a lone backslash
        end = found.end()
    return end
