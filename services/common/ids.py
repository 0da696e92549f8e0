"""Unique ids of requests, completions and process incarnations."""

from __future__ import annotations

from secrets import token_hex


def request_id() -> str:
    """Returns a new request id: `req-` and 32 hexadecimal digits."""
    return f"req-{token_hex(16)}"


def completion_id(*, chat: bool = True) -> str:
    """Returns a new completion id in OpenAI's form: `chatcmpl-` or `cmpl-` and 32 hexadecimal digits.

    Workers log it too.
    """
    return f"{'chatcmpl' if chat else 'cmpl'}-{token_hex(16)}"


def incarnation(role: str) -> str:
    """Returns a new incarnation name for a process of `role`; every start gets its own."""
    return f"{role}-{token_hex(16)}"
