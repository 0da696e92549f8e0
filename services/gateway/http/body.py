"""The request's body, bounded."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope

from services.common.errors import Cancelled
from services.gateway.http.errors import BodyTooLarge, BodyTooSlow


async def read_body(scope: Scope, receive: Receive, limit: int, timeout_s: float) -> bytes:
    """All of the body, at most `limit` bytes.

    Raises BodyTooLarge as soon as the limit is known to be passed, BodyTooSlow after `timeout_s`, Cancelled
    when the client goes away.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_all(receive, limit)
    except TimeoutError as error:
        raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s") from error


async def _read_all(receive: Receive, limit: int) -> bytes:
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
