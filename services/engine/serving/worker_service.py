"""WorkerService: the calls that workers of every role serve."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Protocol

import structlog

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.common.errors import (
    Cancelled,
    Incompatible,
    InvalidRequest,
    PermissionDenied,
    PreconditionFailed,
)
from services.common.logs import level_name, set_log_level
from services.common.rpc.authorization import certified_role
from services.common.rpc.role import Role, worker_role
from services.engine.kv_cache.cache_journal import CacheJournal, Changes
from services.engine.serving.identity import explain_mismatch
from services.engine.serving.paired_readers import PairedReaders, Pairing

if TYPE_CHECKING:
    from services.common.rpc.interceptors import Context

log = structlog.get_logger()

_LOAD_POLL_S = 0.05
_DEFAULT_ROUNDS, _MAX_ROUNDS = 64, 4096
_MAX_NAME = 100


class WorkerBackend(Protocol):
    """The worker's side of the servicer. All methods are called on the event loop and must not block."""

    def info(self) -> worker_pb2.WorkerInfo:
        """The worker's identity; constant."""

    def offer(self) -> worker_pb2.MemoryOffer:
        """The offer of the worker's memory, without a reader's token; constant."""

    def load(self) -> worker_pb2.LoadReport:
        """The load now, without cache changes."""

    def journal(self) -> CacheJournal:
        """The journal of the worker's prefix cache."""

    def leases_settled(self, reader: str, lease_keys: list[int]) -> None:
        """The reader will not read the pages of these leases any more."""

    def reader_joined(self, reader: str) -> None:
        """A handshake of the reader opened."""

    def reader_gone(self, reader: str) -> None:
        """The reader's last handshake ended: all its leases are settled."""

    async def flush(self) -> worker_pb2.FlushResponse:
        """Drops cached pages that nobody holds."""

    async def drain(self) -> worker_pb2.DrainResponse:
        """Stops admitting requests."""

    async def undrain(self) -> None:
        """Admits requests again."""

    async def check_transfer(self, address: str, role: Role, rounds: int) -> worker_pb2.CheckTransferResponse:
        """Reads the probe of the owner of `role` at `address`, `rounds` times. Raises UnsupportedOperation if
        this worker reads from no owner, else as PeerDirectory.check.
        """


class WorkerServicer(worker_pb2_grpc.WorkerServiceServicer):
    """Serves identity, load and handshakes; tracks which readers are paired."""

    def __init__(self, backend: WorkerBackend) -> None:
        self._backend = backend
        self.readers = PairedReaders()
        self._stopping = False

    def stopping(self) -> None:
        """Rejects every undrain from now on: the worker drains because it will end."""
        self._stopping = True

    async def GetInfo(self, request: worker_pb2.GetInfoRequest, context: Context) -> worker_pb2.WorkerInfo:
        return self._backend.info()

    async def WatchLoad(
        self, request: worker_pb2.WatchLoadRequest, context: Context
    ) -> AsyncIterator[worker_pb2.LoadReport]:
        interval_ms = request.interval_ms or 1000
        if not 50 <= interval_ms <= 60_000:
            raise InvalidRequest(f"interval_ms is {interval_ms}; it must be 50 to 60000", "interval_ms")
        last: worker_pb2.LoadReport | None = None
        cursor: int | None = None
        silent_s = 0.0
        while True:
            report = self._backend.load()
            changes, cursor = self._backend.journal().since(cursor)
            if changes or report != last or silent_s * 1000 >= interval_ms:
                yield _with_changes(report, changes)
                last, silent_s = report, 0.0
            await asyncio.sleep(_LOAD_POLL_S)
            silent_s += _LOAD_POLL_S

    async def Handshake(
        self,
        request_iterator: AsyncIterator[worker_pb2.HandshakeRequest],
        context: Context,
    ) -> AsyncIterator[worker_pb2.HandshakeResponse]:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("message") != "hello":
            raise InvalidRequest("the first message of a handshake must be hello", "hello")
        reader = first.hello.incarnation
        if not 0 < len(reader) <= _MAX_NAME:
            raise InvalidRequest(
                f"incarnation has {len(reader)} characters; it must have 1 to {_MAX_NAME}", "incarnation"
            )
        certified = certified_role(context)
        if certified is not None and (claimed := worker_role(first.hello.role)) != certified:
            raise PermissionDenied(
                f"reader {reader} calls itself {claimed}; its certificate is for {certified}"
            )
        mismatch = explain_mismatch(self._backend.info(), first.hello)
        if mismatch is not None:
            raise Incompatible(f"{self._backend.info().incarnation} refuses reader {reader}: {mismatch}")
        pairing = self.readers.join(reader, first.hello.reader_token)
        if pairing.is_first:
            self._backend.reader_joined(reader)
        log.info("reader paired", reader=reader, again=not pairing.is_first)
        try:
            offer = worker_pb2.MemoryOffer(reader_token=pairing.token)
            offer.MergeFrom(self._backend.offer())
            yield worker_pb2.HandshakeResponse(offer=offer)
            async with contextlib.aclosing(_settled(request_iterator, pairing)) as messages:
                async for settled in messages:
                    self.readers.authenticate(reader, settled.reader_token)
                    self._backend.leases_settled(reader, list(settled.lease_keys))
        finally:
            if self.readers.leave(pairing):
                log.info("reader gone", reader=reader)
                self._backend.reader_gone(reader)

    async def Flush(self, request: worker_pb2.FlushRequest, context: Context) -> worker_pb2.FlushResponse:
        return await self._backend.flush()

    async def Drain(self, request: worker_pb2.DrainRequest, context: Context) -> worker_pb2.DrainResponse:
        return await self._backend.drain()

    async def Undrain(
        self, request: worker_pb2.UndrainRequest, context: Context
    ) -> worker_pb2.UndrainResponse:
        if self._stopping:
            raise PreconditionFailed(
                f"{self._backend.info().incarnation} is stopping; wait for its successor"
            )
        await self._backend.undrain()
        return worker_pb2.UndrainResponse()

    async def SetLogLevel(
        self, request: worker_pb2.SetLogLevelRequest, context: Context
    ) -> worker_pb2.SetLogLevelResponse:
        set_log_level(request.level)
        log.info("log level", level=level_name(request.level))
        return worker_pb2.SetLogLevelResponse()

    async def CheckTransfer(
        self, request: worker_pb2.CheckTransferRequest, context: Context
    ) -> worker_pb2.CheckTransferResponse:
        if not request.address:
            raise InvalidRequest("address is empty; it must be the owner's host:port", "address")
        if request.rounds > _MAX_ROUNDS:
            raise InvalidRequest(
                f"rounds is {request.rounds}; it must be 1 to {_MAX_ROUNDS}, or 0 for {_DEFAULT_ROUNDS}",
                "rounds",
            )
        return await self._backend.check_transfer(
            request.address, worker_role(request.role), request.rounds or _DEFAULT_ROUNDS
        )


async def _settled(
    messages: AsyncIterator[worker_pb2.HandshakeRequest], pairing: Pairing
) -> AsyncGenerator[worker_pb2.SettledLeases, None]:
    """The messages after hello. Raises Cancelled once a later handshake has replaced this one."""
    replaced = asyncio.create_task(pairing.replaced.wait())
    message: asyncio.Future[worker_pb2.HandshakeRequest | None] | None = None
    try:
        while True:
            message = asyncio.ensure_future(anext(messages, None))
            await asyncio.wait({message, replaced}, return_when=asyncio.FIRST_COMPLETED)
            if pairing.replaced.is_set():
                raise Cancelled(f"a later handshake of reader {pairing.reader!r} replaced this one")
            if (found := message.result()) is None:
                return
            yield found.settled
    finally:
        replaced.cancel()
        if message is not None:
            message.cancel()


def _with_changes(report: worker_pb2.LoadReport, changes: Changes) -> worker_pb2.LoadReport:
    """A copy of the report with the changes of the cache."""
    full = worker_pb2.LoadReport()
    full.CopyFrom(report)
    if changes:
        cache = worker_pb2.CacheChanges(reset=changes.reset, added=changes.added, removed=changes.removed)
        full.cache.CopyFrom(cache)
    return full
