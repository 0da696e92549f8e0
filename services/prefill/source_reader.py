"""Reads pages that another worker has cached, so that they need not be computed again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from services.common.errors import PerigeeError, Unavailable
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.leases.page_lease import PageLease
from services.engine.leases.source_order import SourceOrder
from services.engine.peers.directory import Peer, PeerDirectory
from services.engine.peers.read_group import ReadGroup
from services.engine.serving.named_tasks import NamedTasks
from services.prefill.job import Job
from services.prefill.source import SourceResult

log = structlog.get_logger()


class SourceReader:
    """A PageSource: runs reads as tasks of the event loop, where it is created.

    `on_end(job, result)` is called once per read, on the event loop; for a result with pages at risk,
    `on_settled(pages)` follows when no byte can land in them any more. No failure is fatal: pages that did
    not arrive are computed. `patience_s` is the timeout of each wait for a source.
    """

    def __init__(
        self,
        peers: PeerDirectory,
        transfer: TransferThread,
        num_layers: int,
        on_end: Callable[[Job, SourceResult], None],
        on_settled: Callable[[tuple[int, ...]], None],
        patience_s: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._transfer = transfer
        self._num_layers = num_layers
        self._on_end = on_end
        self._on_settled = on_settled
        self._patience_s = patience_s
        self._clock = clock
        self._tasks = NamedTasks(self._run, lambda job: on_end(job, SourceResult()))

    def start(self, job: Job, order: SourceOrder) -> None:
        self._tasks.start(job, order)

    def stop(self, job: Job) -> None:
        self._tasks.stop(job)

    async def _run(self, job: Job, order: SourceOrder) -> None:
        """Runs one read and always reports its result."""
        lease: PageLease | None = None
        complete = False
        try:
            peer = await self._peer(order.address)
            group = ReadGroup(self._transfer, peer.agent_name, RegionKind.KV)
            key = self._peers.next_lease_key()
            lease = PageLease(order, peer, group, key, self._num_layers, self._patience_s, self._clock)
            await lease.read()
            complete = True
        except asyncio.CancelledError:
            log.debug("read of cached pages stopped", request=order.request_id, source=order.address)
        except PerigeeError as error:
            log.warning(
                "cached pages not read, computed again", request=order.request_id, source=order.address,
                detail=error.message,
            )  # fmt: skip
        except Exception:  # barrier: the engine expects exactly one end per read
            log.exception(
                "read of cached pages failed unexpectedly", request=order.request_id, source=order.address
            )
        result = SourceResult()
        if lease is not None:
            lease.cancel()  # from here on no read is posted, so the pages at risk are known
            # Arrived pages are final, even if NIXL has not finished the read that brought them.
            at_risk = set(order.pages[lease.arrived :]).intersection(lease.group.pages_at_risk)
            group = lease.group
            result = SourceResult(lease.arrived, tuple(sorted(at_risk)), group.bytes_read, group.busy_s)
            if not complete:
                self._tasks.close_later(self._close(lease, result))
        self._on_end(job, result)

    async def _peer(self, address: str) -> Peer:
        """Returns the paired source. Raises after `patience_s`; pairing continues for other callers."""
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._peers.get(address, "decode")
        except TimeoutError as error:
            raise Unavailable(f"page source {address} did not pair in {self._patience_s:g} s") from error

    async def _close(self, lease: PageLease, result: SourceResult) -> None:
        """Reports an unreleased lease as settled once no read can touch its pages."""
        await lease.group.settled()
        lease.peer.settle([lease.lease_key])
        if result.pages_at_risk:
            self._on_settled(result.pages_at_risk)
