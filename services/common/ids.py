"""Names for things that must not be confused: requests, completions, process incarnations."""

from __future__ import annotations

from uuid import uuid4


def request_id() -> str:
    """A new id of one request that has none, `req-` and 32 hexadecimal digits."""
    return f"req-{uuid4().hex}"


def completion_id(*, chat: bool = True) -> str:
    """A new id of one completion, as OpenAI spells them: `chatcmpl-` or `cmpl-` and 32 hexadecimal digits.

    Workers log it too.
    """
    return f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}"


def incarnation(role: str) -> str:
    """A name for this start of a process of `role`: two starts never share one."""
    return f"{role}-{uuid4().hex}"
