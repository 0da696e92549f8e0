"""Unique ids of requests, completions and process incarnations."""

from __future__ import annotations

from uuid import uuid4


def request_id() -> str:
    """Returns a new request id: `req-` and 32 hexadecimal digits."""
    return f"req-{uuid4().hex}"


def completion_id(*, chat: bool = True) -> str:
    """Returns a new completion id in OpenAI's form: `chatcmpl-` or `cmpl-` and 32 hexadecimal digits.

    Workers log it too.
    """
    return f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}"


def incarnation(role: str) -> str:
    """Returns a new incarnation name for a process of `role`; every start gets its own."""
    return f"{role}-{uuid4().hex}"
