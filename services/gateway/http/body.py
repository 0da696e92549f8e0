"""Reads request bodies, bounded in size and time."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope

from services.common.errors import Cancelled, Overloaded
from services.gateway.access.tenant import Tenant
from services.gateway.byte_budget import ByteBudget, Hold
from services.gateway.http.errors import BodyTooLarge, BodyTooSlow
from services.gateway.http.guards.content_encoding import Decoder, decoder_of


class BodyReader:
    """Reads bodies of at most `limit` bytes, compressed or not, each within `timeout_s` however it is cut."""

    def __init__(self, budget: ByteBudget, limit: int, timeout_s: float) -> None:
        self._budget = budget
        self._limit = limit
        self._timeout_s = timeout_s

    def hold(self, tenant: Tenant | None = None) -> Hold:
        """A hold on the budget, to be used as a context manager around reading and answering a body."""
        return self._budget.hold(tenant)

    async def read(self, scope: Scope, receive: Receive, hold: Hold) -> bytes:
        """All of the body, decompressed.

        Raises BodyTooLarge as soon as the limit is known to be passed by what was sent or by what it
        decompresses to, BodyTooSlow, UnknownEncoding, InvalidRequest if it cannot be decompressed, Overloaded
        if shorter bodies need the memory, Cancelled when the client goes away.
        """
        decoder = decoder_of(scope["headers"])
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._limit:
                raise self._too_large()
        try:
            async with asyncio.timeout(self._timeout_s) as patience:
                hold.read(lambda: patience.reschedule(0))
                body = await self._read_all(receive, decoder, hold)
        except TimeoutError as error:
            if hold.refused:
                raise Overloaded("the memory is needed for shorter requests; retry later", 1.0) from error
            raise BodyTooSlow(f"the body did not arrive within {self._timeout_s:g} s") from error
        hold.keep()
        return body

    async def _read_all(self, receive: Receive, decoder: Decoder, hold: Hold) -> bytes:
        body, sent = bytearray(), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("the client went away while sending its request")
            data = message.get("body", b"")
            sent += len(data)
            if sent > self._limit:
                raise self._too_large()
            for number, piece in enumerate(decoder.pieces(data)):
                if number:
                    await asyncio.sleep(0)
                if len(body) + len(piece) > self._limit:
                    raise self._too_large()
                hold.grow(len(piece))
                body += piece
            if not message.get("more_body", False):
                decoder.end()
                return bytes(body)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._limit} bytes")
