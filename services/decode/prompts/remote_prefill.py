"""Fetches prompts' pages from prefill workers while these compute them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from services.common.errors import Cancelled, InternalError, PerigeeError
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.prompts.prefill_stream import PrefillStream
from services.decode.request import Prompt
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.peers.directory import PeerDirectory
from services.engine.peers.read_group import ReadGroup
from services.engine.serving.named_tasks import NamedTasks

log = structlog.get_logger()


class RemotePrefill:
    """Runs fetches as tasks of the event loop, one per prompt.

    `start` and `stop` may be called from any thread. `on_end(prompt, result)` is called once per fetch, on
    the event loop; for a result with pages at risk, `on_settled(pages)` follows when no byte can land in
    them any more. `on_admitted(prompt)` is called when a prefill worker admits a prompt. `verifies`: whether
    announced checksums are compared; false on a GPU, whose memory the CPU cannot read.
    """

    def __init__(
        self,
        peers: PeerDirectory,
        transfer: TransferThread,
        num_layers: int,
        silence_s: float,
        verifies: bool,
        on_admitted: Callable[[Prompt], None],
        on_end: Callable[[Prompt, FetchResult], None],
        on_settled: Callable[[tuple[int, ...]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._transfer = transfer
        self._num_layers = num_layers
        self._silence_s = silence_s
        self._verifies = verifies
        self._on_admitted = on_admitted
        self._on_end = on_end
        self._on_settled = on_settled
        self._clock = clock
        self._tasks = NamedTasks(self._run, self._end_unbegun)

    def start(self, prompt: Prompt, order: FetchOrder) -> None:
        """Starts a fetch."""
        self._tasks.start(prompt, order)

    def stop(self, prompt: Prompt) -> None:
        """Cancels a fetch, which soon ends with an error. Does nothing if it has ended."""
        self._tasks.stop(prompt)

    def _end_unbegun(self, prompt: Prompt) -> None:
        self._on_end(prompt, FetchResult(Cancelled("the request was cancelled")))

    async def _run(self, prompt: Prompt, order: FetchOrder) -> None:
        """Runs one fetch and always reports its result."""
        fetch: PrefillStream | None = None
        try:
            peer = await self._peers.get(order.address, "prefill")
            group = ReadGroup(self._transfer, peer.agent_name, RegionKind.KV)
            key = self._peers.next_lease_key()
            fetch = PrefillStream(
                order, peer, group, key, self._num_layers, self._verifies,
                lambda: self._on_admitted(prompt), self._clock,
            )  # fmt: skip
            result = await fetch.run(self._silence_s)
        except asyncio.CancelledError:
            result = FetchResult(Cancelled("the request was cancelled"))
        except PerigeeError as error:
            log.warning(
                "prefill failed", request=order.request_id, worker=order.address, detail=error.message
            )
            result = FetchResult(error)
        except Exception as error:  # barrier: the engine expects exactly one end per fetch
            log.exception("fetch failed unexpectedly", request=order.request_id, worker=order.address)
            result = FetchResult(InternalError(f"the fetch from {order.address} failed: {error}"))
        if fetch is not None and result.error is not None:
            fetch.cancel()  # from here on no read is posted, so the pages at risk are known
            at_risk = tuple(fetch.group.pages_at_risk)
            group = fetch.group
            result = replace(result, pages_at_risk=at_risk, bytes_read=group.bytes_read, read_s=group.busy_s)
            self._tasks.close_later(self._close(fetch, result))
        self._on_end(prompt, result)

    async def _close(self, fetch: PrefillStream, result: FetchResult) -> None:
        """Reports the lease of a failed fetch as settled once no read can touch its pages."""
        await fetch.group.settled()
        fetch.peer.settle([fetch.lease_key])
        if result.pages_at_risk:
            self._on_settled(result.pages_at_risk)
