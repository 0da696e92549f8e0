"""Names for things that must not be confused: requests, completions, process incarnations."""

from __future__ import annotations

from uuid import uuid4


def request_id() -> str:
    """A new id of one request, `req-` and 32 hexadecimal digits; every service it visits logs it."""
    return f"req-{uuid4().hex}"


def completion_id() -> str:
    """A new id of one chat completion, as OpenAI spells them: `chatcmpl-` and 32 hexadecimal digits."""
    return f"chatcmpl-{uuid4().hex}"


def incarnation(role: str) -> str:
    """A name for this start of a process of `role`: two starts never share one."""
    return f"{role}-{uuid4().hex}"
