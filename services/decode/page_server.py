"""PageService: leases of cached pages over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from perigee.v1 import pages_pb2, pages_pb2_grpc
from services.common.errors import InvalidRequest
from services.common.page_hash import HASH_BYTES
from services.engine.leases.lease_stream import Authenticate, check_start, grant_to_proto, until_released
from services.engine.leases.page_lending import PageLending
from services.engine.serving.loop import EngineLoop

if TYPE_CHECKING:
    from services.common.rpc.interceptors import Context


class PageServicer(pages_pb2_grpc.PageServiceServicer):
    """One bidirectional stream per lease; pages are pinned on the engine's thread."""

    def __init__(self, lending: PageLending, loop: EngineLoop, authenticate: Authenticate) -> None:
        self._lending = lending
        self._loop = loop
        self._authenticate = authenticate

    async def Lease(
        self,
        request_iterator: AsyncIterator[pages_pb2.PageLeaseRequest],
        context: Context,
    ) -> AsyncIterator[pages_pb2.PageLeaseResponse]:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("message") != "start":
            raise InvalidRequest("the first message must be start", "start")
        start = first.start
        reader, key, hashes = start.reader_incarnation, start.lease_key, list(start.page_hashes)
        check_start(start, "page_hashes", hashes, HASH_BYTES, self._authenticate)
        # A call cancelled here may leave a lease whose id nobody knows. Its reader ends it by its key: it
        # reports the key as settled after every stream that broke.
        lease = await asyncio.wrap_future(self._loop.call(lambda: self._lending.lease(reader, key, hashes)))

        async def renew() -> None:
            await asyncio.wrap_future(self._loop.call(lambda: self._lending.renew(lease.id)))

        async def release() -> None:
            await asyncio.wrap_future(self._loop.call(lambda: self._lending.release(lease.id)))

        try:
            granted = pages_pb2.PageLeaseGranted(lease=grant_to_proto(lease), pages=lease.pages)
            yield pages_pb2.PageLeaseResponse(granted=granted)
            async for answer in until_released(
                request_iterator, lease, renew, release, pages_pb2.PageLeaseResponse
            ):
                yield answer
        finally:
            self._loop.post(lambda: self._lending.abandon(lease.id))
