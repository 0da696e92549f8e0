"""PageService over real gRPC."""

from __future__ import annotations

import threading

import grpc
import pytest
import torch

from perigee.v1 import pages_pb2, pages_pb2_grpc, vision_pb2
from services.common.errors import InvalidRequest, NotFound, Unavailable
from services.common.page_hash import chain_hashes
from services.common.rpc.status import from_rpc_error
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from tests.support.decode_bench import prompt_of
from tests.support.fake_runner import HIDDEN, fake_pages, read_context
from tests.support.owner import peer_directory, transfer_thread
from tests.support.page_lender import PageLender
from tests.support.waiting import until

RENEW = pages_pb2.PageLeaseRequest(renew=vision_pb2.LeaseRenew())


def release_of(lease: vision_pb2.LeaseGrant, **other: int) -> pages_pb2.PageLeaseRequest:
    """What gives a lease back, or, with `other` fields, another one."""
    named = {"lease_id": lease.lease_id, "generation": lease.generation} | other
    return pages_pb2.PageLeaseRequest(release=vision_pb2.LeaseRelease(**named))


class Suite:
    """A lender with three cached pages and a reader that is paired with it."""

    def __init__(self) -> None:
        fabric = MemoryFabric()
        self.lender = PageLender("decode-a", fabric)
        pages = fake_pages(4)
        self.thread = transfer_thread("reader", fabric, pages, torch.zeros(2, 64, HIDDEN))
        self.peers = peer_directory("prefill-1", self.thread, pages)

    async def start(self) -> None:
        await self.lender.start()
        await self.lender.remember(prompt_of(200))
        self.peer = await self.peers.get(self.lender.address, "prefill")

    def call(self) -> grpc.aio.StreamStreamCall:
        return pages_pb2_grpc.PageServiceStub(self.peer.channel).Lease()

    async def begin(self, length: int = 200, **fields) -> grpc.aio.StreamStreamCall:
        """A call whose start is sent."""
        call = self.call()
        hashes = chain_hashes(prompt_of(length), [], "")
        defaults = {
            "reader_incarnation": "prefill-1",
            "reader_token": self.peer.token,
            "lease_key": 7,
            "page_hashes": hashes,
        }
        start = pages_pb2.PageLeaseStart(**(defaults | fields))
        await call.write(pages_pb2.PageLeaseRequest(start=start))
        return call

    async def close(self) -> None:
        await self.lender.check_integrity()
        await self.peers.close()
        await self.lender.stop()
        self.thread.close()


@pytest.fixture
async def suite():
    suite = Suite()
    await suite.start()
    yield suite
    await suite.close()


async def test_pages_are_granted_renewed_and_released(suite):
    call = await suite.begin(length=300)
    granted = (await call.read()).granted
    assert (granted.lease.duration_ms, len(granted.pages)) == (10_000, 3)
    assert granted.lease.lease_id
    assert read_context(suite.lender.bench.kv_pages, list(granted.pages), 192) == prompt_of(200)[:192]
    for sequence in (1, 2):
        await call.write(RENEW)
        assert (await call.read()).renewed.sequence == sequence
    assert suite.lender.engine.load.pages.leased == 3
    await call.write(release_of(granted.lease))
    assert (await call.read()).released.generation == granted.lease.generation > 0
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK
    await until(suite.lender.is_free)


async def test_serving_is_pinned_before_the_pages_are_granted_and_until_they_are_released(suite):
    assert suite.lender.bench.serving == []
    call = await suite.begin()
    lease = (await call.read()).granted.lease
    assert suite.lender.bench.serving == [True]
    await call.write(release_of(lease))
    await call.read()
    assert suite.lender.bench.serving == [True, False]


@pytest.mark.parametrize("settled_before", [False, True])
async def test_a_release_of_a_lease_that_is_not_held_fails(suite, settled_before):
    call = await suite.begin()
    lease = (await call.read()).granted.lease
    if settled_before:
        suite.peer.settle([7])
        await until(suite.lender.is_free)
    await call.write(release_of(lease, **({} if settled_before else {"lease_id": 99})))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), NotFound if settled_before else InvalidRequest)
    suite.peer.settle([7])
    await until(suite.lender.is_free)


async def test_pages_that_were_flushed_are_not_found(suite):
    await suite.lender.flush()
    call = await suite.begin()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), NotFound)
    await until(suite.lender.is_free)


@pytest.mark.parametrize("ending", ["cancelled", "half-closed"])
async def test_pages_of_a_stream_that_ends_without_a_release_wait_for_the_readers_word(suite, ending):
    call = await suite.begin()
    await call.read()
    if ending == "cancelled":
        call.cancel()
    else:
        await call.done_writing()
    await until(lambda: suite.lender.engine.load.pages.quarantined == 3)
    suite.peer.settle([7])
    await until(suite.lender.is_free)


async def test_a_call_cancelled_before_the_engine_answered_leaves_a_lease_that_its_readers_word_ends(
    suite, monkeypatch
):
    lent, cancelled, gate = threading.Event(), threading.Event(), threading.Event()
    lend, call_engine = suite.lender.engine.lending.lease, suite.lender.loop.call

    def lend_and_stay(*arguments):
        lease = lend(*arguments)
        lent.set()
        gate.wait(10)
        return lease

    def call_and_watch(function):
        future = call_engine(function)
        future.cancel = cancelled.set  # so the cancelled handler tries to stop the engine
        return future

    monkeypatch.setattr(suite.lender.engine.lending, "lease", lend_and_stay)
    monkeypatch.setattr(suite.lender.loop, "call", call_and_watch)
    call = await suite.begin()
    await until(lent.is_set)
    call.cancel()
    await until(cancelled.is_set)
    monkeypatch.undo()
    gate.set()
    await until(lambda: suite.lender.engine.load.pages.leased == 3)
    suite.peer.settle([7])
    await until(suite.lender.is_free)


async def test_a_reader_whose_handshake_ends_leaves_nothing_behind(suite):
    call = await suite.begin()
    await call.read()
    await suite.peers.close()
    await until(suite.lender.is_free)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"lease_key": 0}, InvalidRequest),
        ({"page_hashes": []}, InvalidRequest),
        ({"page_hashes": [b"x" * 15]}, InvalidRequest),
        ({"reader_incarnation": "a-stranger"}, Unavailable),
        ({"reader_token": b""}, Unavailable),
        ({"reader_token": bytes(16)}, Unavailable),
    ],
)
async def test_a_start_that_is_wrong_is_refused_before_anything_is_held(suite, fields, kind):
    call = await suite.begin(**fields)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), kind)
    assert suite.lender.is_free()


async def test_a_call_that_does_not_begin_with_start_is_refused(suite):
    call = suite.call()
    await call.write(RENEW)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), InvalidRequest)
