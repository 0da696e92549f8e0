"""Prompts filled by prefill workers and read over, page by page, while they are computed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import replace

import structlog

from services.common.errors import Cancelled, InternalError, PerigeeError
from services.decode.fetch import FetchOrder, FetchResult
from services.decode.prefill_stream import PrefillStream
from services.decode.request import Prompt
from services.engine.kv_transfer.region import RegionKind
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.peers import PeerDirectory
from services.engine.read_group import ReadGroup

log = structlog.get_logger()


class RemotePrefill:
    """Runs fetches as tasks of the event loop.

    `start` and `stop` may be called from any thread; the prompt a fetch is for names it.
    `on_end(prompt, result)` is called once per fetch, on the event loop; for a result with pages at risk,
    `on_settled(pages)` follows when no byte can land in them any more. `verifies`: whether announced
    checksums are compared; bytes on a GPU are not at hand.
    """

    def __init__(
        self,
        peers: PeerDirectory,
        transfer: TransferThread,
        reader: str,
        num_layers: int,
        silence_s: float,
        verifies: bool,
        on_end: Callable[[Prompt, FetchResult], None],
        on_settled: Callable[[tuple[int, ...]], None],
    ) -> None:
        self._peers = peers
        self._transfer = transfer
        self._reader = reader
        self._num_layers = num_layers
        self._silence_s = silence_s
        self._verifies = verifies
        self._on_end = on_end
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._running: dict[Prompt, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def start(self, prompt: Prompt, order: FetchOrder) -> None:
        """Begins a fetch."""
        self._loop.call_soon_threadsafe(self._start, prompt, order)

    def stop(self, prompt: Prompt) -> None:
        """Cancels a fetch; it ends with an error soon. Fetches that have ended are ignored."""
        self._loop.call_soon_threadsafe(self._stop, prompt)

    def _start(self, prompt: Prompt, order: FetchOrder) -> None:
        task = asyncio.create_task(self._run(prompt, order))
        self._running[prompt] = task
        task.add_done_callback(functools.partial(self._end_unbegun, prompt))

    def _end_unbegun(self, prompt: Prompt, task: asyncio.Task[None]) -> None:
        """A task that is cancelled before its first step never enters `_run`: its end is reported here."""
        if task.cancelled():
            del self._running[prompt]
            self._on_end(prompt, FetchResult(Cancelled("the request was cancelled")))

    def _stop(self, prompt: Prompt) -> None:
        task = self._running.get(prompt)
        if task is not None:
            task.cancel()

    async def _run(self, prompt: Prompt, order: FetchOrder) -> None:
        """One fetch from beginning to end; reports its result whatever happens."""
        fetch: PrefillStream | None = None
        try:
            peer = await self._peers.get(order.address)
            group = ReadGroup(self._transfer, peer.agent_name, RegionKind.KV)
            fetch = PrefillStream(
                order, peer, group, self._peers.next_lease_key(), self._num_layers, self._verifies
            )
            result = await fetch.run(self._reader, self._silence_s)
        except asyncio.CancelledError:
            result = FetchResult(Cancelled("the request was cancelled"))
        except PerigeeError as error:
            log.warning(
                "prefill failed", request=order.request_id, worker=order.address, detail=error.message
            )
            result = FetchResult(error)
        except Exception as error:  # barrier: the engine waits for exactly one end per fetch
            log.exception("a fetch broke", request=order.request_id, worker=order.address)
            result = FetchResult(InternalError(f"the fetch from {order.address} broke: {error}"))
        del self._running[prompt]
        if fetch is not None:
            if result.error is not None:
                fetch.cancel()  # from here on no read is posted, so the pages at risk are known
                at_risk = tuple(fetch.group.pages_at_risk)
                result = replace(result, pages_at_risk=at_risk, bytes_read=fetch.group.bytes_read)
            self._background(self._close(fetch, result))
        self._on_end(prompt, result)

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, fetch: PrefillStream, result: FetchResult) -> None:
        """Lets go of the lease: by a release where all went well, else once no read can touch its pages."""
        if result.error is None and await fetch.released():
            return
        await fetch.group.settled()
        fetch.peer.settle([fetch.lease_key])
        if result.pages_at_risk:
            self._on_settled(result.pages_at_risk)
