"""Reads image embeddings from the vision pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import structlog
import torch

from perigee.v1 import vision_pb2, vision_pb2_grpc
from services.common.errors import InternalError, MediaLost, NotFound, PerigeeError, Unavailable
from services.common.rpc.outgoing import until_none
from services.common.rpc.status import from_rpc_error
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.leases.lease_clock import LeaseClock
from services.engine.media import Medium
from services.engine.peers.directory import Peer, PeerDirectory
from services.engine.peers.granted_pages import check_granted
from services.engine.peers.read_group import ReadGroup
from services.engine.scheduler.staging_line import StagingLine

ROWS_PER_PAGE = 64
ROWS_DTYPE = torch.float32
"""What embeddings travel in, whatever dtype the weights have: CPUs and GPUs serve each other."""

log = structlog.get_logger()


def row_page_bytes(hidden_size: int) -> int:
    """Returns the bytes of a page of embedding rows of that width."""
    return ROWS_PER_PAGE * hidden_size * ROWS_DTYPE.itemsize


class EmbeddingReader:
    """Reads embeddings into a bounded, registered staging area and hands out copies. Event loop only.

    `staging` is [pages, 64, hidden]. A read that needs more pages than are free waits for its turn, in the
    order of arrival, at most `turn_s`. Pages of a read that has not settled stay out of use until it has. A
    vision worker must answer each message within `patience_s`, because other reads wait for the pages that
    this one holds.
    """

    def __init__(
        self,
        peers: PeerDirectory,
        transfer: TransferThread,
        staging: torch.Tensor,
        patience_s: float = 10.0,
        turn_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._transfer = transfer
        self._staging = staging
        self._patience_s, self._turn_s = patience_s, turn_s
        self._clock = clock
        self._line = StagingLine(staging.shape[0])
        self._settling: set[asyncio.Task[None]] = set()

    @staticmethod
    def region(staging: torch.Tensor) -> Region:
        """The staging area as a region of the transfer thread."""
        entry_bytes = staging[0].numel() * staging.element_size()
        return Region(RegionKind.EMBEDDING, staging.data_ptr(), entry_bytes, staging.shape[0])

    async def fetch(self, medium: Medium) -> torch.Tensor:
        """Reads the embedding of a medium, [num_tokens, hidden]; the caller gets its own copy.

        Raises MediaLost if it is not in the vision worker's pool (any more) or cannot be read in full, also
        if the worker is gone; Incompatible if that worker serves another model.
        """
        try:
            return await self._fetch(medium)
        except (NotFound, Unavailable) as error:
            # Whatever went wrong, encoding the image again repairs it.
            raise MediaLost(error.message) from error

    async def fetch_all(self, media: Sequence[Medium], indices: Sequence[int]) -> dict[int, torch.Tensor]:
        """The embeddings of media[i] for i in `indices`, by index. Raises only PerigeeErrors; the first one
        cancels the other fetches.
        """
        fetches = [asyncio.create_task(self.fetch(media[index])) for index in indices]
        try:
            rows = await asyncio.gather(*fetches)
        except PerigeeError:
            raise
        except Exception as error:  # barrier: a request waits for these embeddings and would wait forever
            log.exception("a read of embeddings failed")
            raise InternalError(f"a read of embeddings failed: {error}") from error
        finally:
            for fetch in fetches:
                fetch.cancel()
        return dict(zip(indices, rows, strict=True))

    async def _fetch(self, medium: Medium) -> torch.Tensor:
        needed = -(-medium.num_tokens // ROWS_PER_PAGE)
        if needed > self._staging.shape[0]:
            raise MediaLost(
                f"an image of {medium.num_tokens} tokens does not fit the staging area of "
                f"{self._staging.shape[0] * ROWS_PER_PAGE} rows"
            )
        peer = await self._peers.get(medium.address, "vision")
        if peer.offer.incarnation != medium.incarnation:
            raise MediaLost(f"vision worker {medium.address} was replaced since it encoded the image")
        staged = await self._turn(needed)
        group = ReadGroup(self._transfer, peer.agent_name, RegionKind.EMBEDDING)
        key = self._peers.next_lease_key()
        try:
            await self._read(medium, peer, key, group, staged)
            embedding = self._staging[staged].flatten(0, 1)[: medium.num_tokens]
        except BaseException:
            task = asyncio.create_task(self._settle(peer, key, group, staged))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
            raise
        self._line.give(staged)
        return embedding

    async def _turn(self, needed: int) -> list[int]:
        """Takes staging pages. Raises MediaLost if other reads hold them for too long."""
        try:
            async with asyncio.timeout(self._turn_s):
                return await self._line.take(needed)
        except TimeoutError as error:
            raise MediaLost(
                f"the staging area for embeddings had no {needed} free pages for {self._turn_s:g} s"
            ) from error

    async def _read(self, medium: Medium, peer: Peer, key: int, group: ReadGroup, staged: list[int]) -> None:
        """Leases the embedding, reads it into `staged`, releases it.

        Returns once the vision worker has confirmed that it held the lease throughout. A worker that loses
        the connection considers this reader gone and reuses the pages, and it may notice the loss before the
        reader does.
        """
        clock = LeaseClock(self._clock)
        outgoing: asyncio.Queue[vision_pb2.EmbeddingLeaseRequest | None] = asyncio.Queue()
        start = vision_pb2.EmbeddingLeaseStart(
            reader_incarnation=peer.reader,
            reader_token=peer.token,
            content_hashes=[medium.content_hash],
            lease_key=key,
        )
        outgoing.put_nowait(vision_pb2.EmbeddingLeaseRequest(start=start))
        stream = vision_pb2_grpc.VisionServiceStub(peer.channel).Lease(until_none(outgoing))
        try:
            granted = (await self._answer(stream, medium, "granted")).granted
            clock.granted(granted.lease)
            if len(granted.embeddings) != 1:
                raise MediaLost(
                    f"vision worker {medium.address} lent {len(granted.embeddings)} embeddings instead of 1"
                )
            pages = granted.embeddings[0]
            owner = f"vision worker {medium.address}"
            check_granted(peer.offer, RegionKind.EMBEDDING, pages.pages, 1, owner)
            if pages.num_tokens != medium.num_tokens or len(pages.pages) != len(staged):
                raise MediaLost(
                    f"vision worker {medium.address} has {pages.num_tokens} rows for an image of "
                    f"{medium.num_tokens} tokens"
                )
            group.post(
                staged, np.asarray(staged, np.int32), np.asarray(pages.pages, np.int32), clock.deadline
            )
            await group.completed()
            if clock.expired:
                raise MediaLost(f"the lease of vision worker {medium.address} ran out during the read")
            outgoing.put_nowait(vision_pb2.EmbeddingLeaseRequest(release=clock.release()))
            answer = await self._answer(stream, medium, "released")
            if not clock.is_confirmed_by(answer.released):
                raise MediaLost(f"vision worker {medium.address} released another lease than it granted")
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            raise type(failure)(f"vision worker {medium.address}: {failure.message}") from error
        finally:
            stream.cancel()
            outgoing.put_nowait(None)

    async def _answer(
        self, stream: grpc.aio.StreamStreamCall[Any, Any], medium: Medium, kind: str
    ) -> vision_pb2.EmbeddingLeaseResponse:
        """The next message. Raises Unavailable if it is late, missing or of another kind."""
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await stream.read()
        except TimeoutError as error:
            raise Unavailable(
                f"vision worker {medium.address} did not answer in {self._patience_s:g} s"
            ) from error
        if not isinstance(answer, vision_pb2.EmbeddingLeaseResponse) or answer.WhichOneof("message") != kind:
            raise Unavailable(f"vision worker {medium.address} ended a lease, {kind} was expected")
        return answer

    async def _settle(self, peer: Peer, key: int, group: ReadGroup, staged: list[int]) -> None:
        """Waits until no byte can land any more, then lets the owner reuse its pages and others the staging
        pages.
        """
        await group.settled()
        peer.settle([key])
        self._line.give(staged)
