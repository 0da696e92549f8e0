"""The base of the answers: structs that are encoded as they are, and described in /openapi.json.

A field that an answer leaves out is UNSET. A field that is null in an answer is None.
"""

from __future__ import annotations

from msgspec import Struct, json


class AnswerShape(Struct, forbid_unknown_fields=True):
    """Base of all answers."""


def event_name(answer: AnswerShape) -> bytes:
    """The tag of an answer that has one, which is its `type`."""
    return str(answer.__struct_config__.tag).encode()


encode = json.Encoder().encode
"""The JSON of an answer, or of a list of them."""
