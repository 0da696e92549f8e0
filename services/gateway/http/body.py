"""The request's body, bounded."""

from __future__ import annotations

from starlette.types import Receive, Scope

from services.common.errors import Cancelled
from services.gateway.http.errors import BodyTooLarge


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """All of the body, at most `limit` bytes.

    Raises BodyTooLarge as soon as the limit is known to be passed, Cancelled when the client goes away.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the client went away while sending its request")
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit} bytes")
