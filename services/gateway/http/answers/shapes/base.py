"""The base of the answer schemas, which the OpenAPI description is built from.

A test compares every answer with its schema. Null and absent mean the same where a field may be null.
"""

from __future__ import annotations

from msgspec import Struct


class AnswerShape(Struct, forbid_unknown_fields=True):
    """Base of all answer schemas."""
