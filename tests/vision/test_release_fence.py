"""Embeddings count only if their lease was held until the reader was done with them.

A lender and a reader, one process, over real gRPC and the in-memory transport.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest
import torch

from perigee.v1 import vision_pb2, vision_pb2_grpc, worker_pb2, worker_pb2_grpc
from services.common.errors import AlreadyPaired, MediaLost, Unavailable
from services.common.rpc.status import from_rpc_error
from services.engine.kv_cache.kv_pages import kv_layout
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.leases.embedding_reader import EmbeddingReader
from services.engine.media import Medium
from services.families.kimi.family import MEDIA
from services.vision.embedding_lessor import EmbeddingLessor
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows, write_embedding
from services.vision.server import VisionServicer
from tests.support.fake_runner import HIDDEN, fake_pages
from tests.support.owner import MODEL, Owner, RecordingBackend, peer_directory, transfer_thread
from tests.support.waiting import until

PAGES = 4
HASH = b"a" * 32


class LendingBackend(RecordingBackend):
    """Passes on what it hears of readers."""

    lessor: EmbeddingLessor

    def leases_settled(self, reader: str, lease_keys: list[int]) -> None:
        super().leases_settled(reader, lease_keys)
        self.lessor.settled(reader, lease_keys)

    def reader_joined(self, reader: str) -> None:
        super().reader_joined(reader)
        self.lessor.reader_joined(reader)

    def reader_gone(self, reader: str) -> None:
        super().reader_gone(reader)
        self.lessor.reader_gone(reader)


class Suite:
    """A pool with one embedding of 100 rows of ones, and a reader."""

    def __init__(self) -> None:
        self.fabric = MemoryFabric()
        self.kv_pages = fake_pages(2)
        self.rows = allocate_embedding_rows(PAGES, HIDDEN)
        self.pool = EmbeddingPool(self.rows, hold_s=60.0, lease_s=10.0)
        self.lessor = EmbeddingLessor(self.pool, lambda serving: None)
        self.vision_thread = transfer_thread("vision", self.fabric, self.kv_pages, self.rows)
        backend = LendingBackend("vision", self.vision_thread, self.kv_pages)
        backend.lessor = self.lessor
        self.owner = Owner(backend)
        self.servicer = VisionServicer(
            cast(Any, None), MEDIA, self.lessor, self.owner.servicer.readers.authenticate, "vision", 60_000
        )
        staging = torch.zeros(4, 64, HIDDEN)
        self.thread = transfer_thread("reader", self.fabric, self.kv_pages, staging)
        self.peers = peer_directory("reader-1", self.thread, self.kv_pages)
        self.reader = EmbeddingReader(self.peers, self.thread, staging)
        self.store(HASH, 100, 1.0)

    def store(self, content_hash: bytes, num_tokens: int, value: float) -> None:
        pages = self.pool.reserve(num_tokens)
        write_embedding(self.rows, pages, torch.full((num_tokens, HIDDEN), value))
        self.pool.store(content_hash, (1, 2, 2), num_tokens, pages)

    def fetch(self) -> asyncio.Task[torch.Tensor]:
        return asyncio.create_task(self.reader.fetch(Medium(HASH, 0, 100, self.owner.address, "vision")))

    async def start(self) -> None:
        await self.owner.start(
            lambda server: vision_pb2_grpc.add_VisionServiceServicer_to_server(self.servicer, server)
        )
        self.peer = await self.peers.get(self.owner.address, "prefill")

    async def fetch_slowly(self) -> asyncio.Task[torch.Tensor]:
        """A fetch that has its lease; nothing has been read yet."""
        self.fabric.held.add("vision")
        fetch = self.fetch()
        await until(lambda: self.thread.in_flight() > 0 and self.pool.counts().leased == 2)
        return fetch

    async def use_all_pages(self) -> None:
        await until(lambda: not self.pool.counts().leased)
        self.store(b"b" * 32, PAGES * 64, 2.0)
        self.fabric.held.clear()

    async def close(self) -> None:
        self.fabric.held.clear()
        await until(lambda: self.reader._line.available() == 4)
        await self.peers.close()
        await self.owner.stop()
        self.thread.close()
        self.vision_thread.close()
        self.pool.check_integrity()


@pytest.fixture
async def suite():
    suite = Suite()
    await suite.start()
    yield suite
    await suite.close()


async def test_rows_come_as_they_are_and_the_lease_is_over(suite):
    assert torch.equal(await suite.fetch(), torch.ones(100, HIDDEN))
    counts = suite.pool.counts()
    assert (counts.leased, counts.quarantined) == (0, 0)


@pytest.mark.parametrize("token", [b"", bytes(16)])
async def test_nobody_without_the_token_can_settle_start_or_end_a_readers_leases(suite, token):
    fetch = await suite.fetch_slowly()
    hello = worker_pb2.ReaderHello(
        incarnation="reader-1",
        role=worker_pb2.WORKER_ROLE_DECODE,
        model=MODEL,
        layout=kv_layout(suite.kv_pages),
        reader_token=token,
    )
    start = vision_pb2.EmbeddingLeaseStart(
        reader_incarnation="reader-1", reader_token=token, content_hashes=[HASH], lease_key=2
    )
    forged = (
        (
            worker_pb2_grpc.WorkerServiceStub(suite.peer.channel).Handshake(),
            worker_pb2.HandshakeRequest(hello=hello),
            AlreadyPaired,
        ),
        (
            vision_pb2_grpc.VisionServiceStub(suite.peer.channel).Lease(),
            vision_pb2.EmbeddingLeaseRequest(start=start),
            Unavailable,
        ),
    )
    for call, message, kind in forged:
        await call.write(message)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert type(from_rpc_error(caught.value)) is kind
    assert suite.pool.counts().leased == 2
    suite.fabric.held.clear()
    assert torch.equal(await fetch, torch.ones(100, HIDDEN))


async def test_an_embedding_whose_handshake_ended_and_began_again_is_lost(suite):
    """The call that holds the lease goes on all the while."""
    fetch = await suite.fetch_slowly()
    suite.peer.link.cancel()
    await until(lambda: not suite.pool.counts().leased)
    again = asyncio.create_task(suite.peers.get(suite.owner.address, "prefill"))
    await until(lambda: suite.owner.servicer.readers.is_paired("reader-1"))
    await suite.use_all_pages()
    with pytest.raises(MediaLost):
        await fetch
    assert (await again).alive
