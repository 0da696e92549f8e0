"""JSON that no client breaks into lines: without U+0085, U+2028 and U+2029 as they are."""

from __future__ import annotations

# In UTF-8 these bytes are nothing else. JSON escapes all other line breaks itself.
_ESCAPES = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def one_line(document: bytes) -> bytes:
    """The same JSON, with these three characters escaped.

    An event ends at a line feed alone, but many clients split text as Python's `str.splitlines` does.
    """
    if b"\xc2\x85" in document or b"\xe2\x80" in document:
        for character, escape in _ESCAPES:
            document = document.replace(character, escape)
    return document
