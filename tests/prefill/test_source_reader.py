"""Pages read from a lender, one process, over real gRPC and the in-memory transport."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import grpc
import pytest
import torch

from perigee.v1 import prefill_pb2, prefill_pb2_grpc, vision_pb2, worker_pb2, worker_pb2_grpc
from services.common.page_hash import chain_hashes
from services.engine.kv_cache.kv_pages import kv_layout
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.leases import page_lease
from services.engine.peers.read_group import ReadGroup
from tests.support.decode_bench import prompt_of
from tests.support.fake_runner import HIDDEN, NUM_LAYERS, fake_pages, read_context
from tests.support.manual_clock import ManualClock
from tests.support.owner import MODEL, peer_directory, transfer_thread
from tests.support.page_lender import PageLender
from tests.support.prefill_worker import PrefillWorker
from tests.support.waiting import until

PAGE_BYTES = NUM_LAYERS * 64 * 4 * 4
PROMPT = prompt_of(300)
CACHED = 4
"""Pages of the prompt that the reader has."""
PATIENCE_S = 0.4


class Suite:
    """A lender that has the prompt's whole pages, a prefill worker that has none, and a reader.

    Leases and the time of a read are measured by `clock`.
    """

    def __init__(self, lease_s: float, patience_s: float) -> None:
        self.fabric = MemoryFabric()
        self.clock = ManualClock()
        self.lender = PageLender("decode-a", self.fabric, lease_s=lease_s, clock=self.clock)
        self.worker = PrefillWorker("prefill-a", self.fabric, patience_s=patience_s, clock=self.clock)
        pages = fake_pages(4)
        self.thread = transfer_thread("reader", self.fabric, pages, torch.zeros(2, 64, HIDDEN))
        self.peers = peer_directory("reader-1", self.thread, pages)

    async def start(self) -> None:
        await self.lender.start()
        await self.worker.start()
        await self.lender.remember(PROMPT[: CACHED * 64])
        self.peer = await self.peers.get(self.worker.address, "prefill")

    async def call(self, source: str | None = None) -> grpc.aio.StreamStreamCall:
        """A Prefill call whose reader has CACHED pages."""
        call = prefill_pb2_grpc.PrefillServiceStub(self.peer.channel).Prefill()
        start = prefill_pb2.PrefillStart(
            reader_incarnation="reader-1",
            reader_token=self.peer.token,
            lease_key=77,
            token_ids=PROMPT,
            reader_cached_pages=CACHED,
            source_address=self.lender.address if source is None else source,
        )
        await call.write(prefill_pb2.PrefillRequest(start=start))
        return call

    async def finish(self, call: grpc.aio.StreamStreamCall) -> prefill_pb2.PrefillDone:
        """Until the job is done and released; what lies in the worker's cache then is the prompt."""
        while not (message := await call.read()).HasField("done"):
            assert not message.HasField("refused"), message
            if message.HasField("admitted"):
                self.granted = message.admitted.lease
        release = vision_pb2.LeaseRelease(lease_id=self.granted.lease_id, generation=self.granted.generation)
        await call.write(prefill_pb2.PrefillRequest(release=release))
        await call.done_writing()
        assert (await call.read()).HasField("released")
        await self.check_cache()
        return message.done

    async def check_cache(self) -> None:
        """Every whole page of the prompt is cached at the worker and holds what it should."""
        hashes = chain_hashes(PROMPT, [], "")
        pages = await asyncio.wrap_future(
            self.worker.loop.call(lambda: self.worker.engine._pages.cache.find(hashes))
        )
        assert len(pages) == CACHED
        assert read_context(self.worker.kv_pages, pages, CACHED * 64) == PROMPT[: CACHED * 64]

    async def all_free(self) -> None:
        """Nobody holds a page anywhere, soon."""
        await until(self.worker.is_free)
        await until(self.lender.is_free)
        await self.worker.check_integrity()
        await self.lender.check_integrity()

    async def close(self) -> None:
        self.fabric.held.clear()
        await self.all_free()
        await self.peers.close()
        await self.worker.stop()
        await self.lender.stop()
        self.thread.close()


@pytest.fixture
def lease_s() -> float:
    return 10.0


@pytest.fixture
def patience_s() -> float:
    return PATIENCE_S


@pytest.fixture
async def suite(lease_s, patience_s):
    suite = Suite(lease_s, patience_s)
    await suite.start()
    yield suite
    await suite.close()


async def pair(suite: Suite) -> None:
    """Has the worker paired with the lender, so that what is disturbed afterwards is the read alone."""
    await suite.worker.peers.get(suite.lender.address, "prefill")


async def begun(suite: Suite) -> grpc.aio.StreamStreamCall:
    """A call whose read is in flight and stays so."""
    await pair(suite)
    suite.fabric.held.add("decode-a")
    call = await suite.call()
    await until(lambda: suite.worker.thread.in_flight() > 0)
    return call


def computed_nothing_from_the_source(done: prefill_pb2.PrefillDone) -> bool:
    return (done.computed_tokens, done.source_tokens) == (300, 0)


async def test_cached_pages_are_read_and_the_rest_is_computed(suite):
    done = await suite.finish(await suite.call())
    assert (done.computed_tokens, done.source_tokens) == (300 - 256, 256)
    assert suite.worker.engine.load.transfer_bytes == CACHED * PAGE_BYTES
    await suite.all_free()
    assert suite.lender.engine.load.pages.quarantined == 0


async def test_pages_the_source_lost_since_are_computed(suite):
    await suite.lender.flush()
    await suite.lender.remember(PROMPT[:130])
    done = await suite.finish(await suite.call())
    assert (done.computed_tokens, done.source_tokens) == (300 - 128, 128)


async def test_a_source_that_has_none_of_them_leaves_all_to_be_computed(suite):
    await suite.lender.flush()
    assert computed_nothing_from_the_source(await suite.finish(await suite.call()))


async def test_a_source_that_grants_pages_outside_its_offer_is_not_read(suite):
    lending = suite.lender.engine.lending
    lease = lending.lease
    lending.lease = lambda *arguments: replace(lease(*arguments), pages=(0, 1, 16, 3))
    done = await suite.finish(await suite.call())
    assert (done.source_tokens, done.computed_tokens) == (0, len(PROMPT))


async def test_a_source_that_is_gone_leaves_all_to_be_computed(suite):
    await suite.lender.owner.stop()
    assert computed_nothing_from_the_source(await suite.finish(await suite.call()))


async def test_a_place_where_nobody_lends_pages_leaves_all_to_be_computed(suite):
    done = await suite.finish(await suite.call(source=suite.worker.address))
    assert computed_nothing_from_the_source(done)


async def test_a_source_that_does_not_grant_costs_its_patience_and_no_more(suite):
    await pair(suite)
    gate = threading.Event()
    suite.lender.loop.post(lambda: gate.wait(10))
    started = time.monotonic()
    done = await suite.finish(await suite.call())
    assert PATIENCE_S <= time.monotonic() - started < PATIENCE_S + 3
    assert computed_nothing_from_the_source(done)
    gate.set()


async def test_a_source_that_does_not_pair_costs_its_patience_and_no_more(suite, monkeypatch):
    async def never(address: str, role: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(suite.worker.peers, "get", never)
    started = time.monotonic()
    done = await suite.finish(await suite.call())
    assert PATIENCE_S <= time.monotonic() - started < PATIENCE_S + 3
    assert computed_nothing_from_the_source(done)


@pytest.mark.parametrize("patience_s", [5.0])
async def test_a_read_that_hangs_is_given_up_and_its_pages_wait_until_it_has_settled(suite):
    call = await begun(suite)
    suite.clock.now += 5.0
    done = await suite.finish(call)
    assert computed_nothing_from_the_source(done)
    await until(lambda: suite.worker.engine.load.pages.quarantined == CACHED)
    await until(lambda: suite.lender.engine.load.pages.quarantined == CACHED)
    suite.fabric.held.clear()
    await suite.all_free()
    await suite.check_cache()


async def test_a_read_that_fails_leaves_its_pages_to_be_computed(suite):
    await pair(suite)
    suite.fabric.failing_posts["decode-a"] = 1
    assert computed_nothing_from_the_source(await suite.finish(await suite.call()))


async def test_a_source_killed_during_the_read_leaves_its_pages_to_be_computed(suite):
    call = await begun(suite)
    suite.fabric.dead.add("decode-a")
    await suite.lender.owner.stop()
    assert computed_nothing_from_the_source(await suite.finish(call))
    suite.fabric.dead.clear()


@pytest.mark.parametrize("patience_s", [30.0])
@pytest.mark.parametrize("token", [b"", bytes(16)])
async def test_nobody_without_the_token_can_settle_a_lease_in_the_readers_name(suite, token):
    call = await begun(suite)
    channel = (await suite.worker.peers.get(suite.lender.address, "prefill")).channel
    forger = worker_pb2_grpc.WorkerServiceStub(channel).Handshake()
    hello = worker_pb2.ReaderHello(
        incarnation="prefill-a",
        role=worker_pb2.WORKER_ROLE_DECODE,
        model=MODEL,
        layout=kv_layout(suite.worker.kv_pages),
        reader_token=token,
    )
    await forger.write(worker_pb2.HandshakeRequest(hello=hello))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await forger.read()
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert suite.lender.engine.load.pages.leased == CACHED
    suite.fabric.held.clear()
    assert (await suite.finish(call)).source_tokens == CACHED * 64


@pytest.mark.parametrize("patience_s", [30.0])
async def test_a_call_cancelled_during_the_read_ends_it_at_once(suite):
    call = await begun(suite)
    call.cancel()
    await until(lambda: suite.worker.engine.load.running == 0)
    await until(lambda: suite.worker.engine.load.pages.quarantined == 5)
    await until(lambda: suite.lender.engine.load.pages.quarantined == CACHED)
    suite.peer.settle([77])
    await until(lambda: suite.worker.engine.load.pages.quarantined == CACHED)
    suite.fabric.held.clear()
    await suite.all_free()
    assert suite.worker.runner.batches == []


@pytest.mark.parametrize("patience_s", [30.0])
async def test_a_call_cancelled_while_the_source_pairs_frees_its_pages_at_once(suite, monkeypatch):
    async def never(address: str, role: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(suite.worker.peers, "get", never)
    call = await suite.call()
    await until(lambda: suite.worker.engine.load.running)
    call.cancel()
    suite.peer.settle([77])
    await until(suite.worker.is_free)


@pytest.mark.parametrize("patience_s", [30.0])
async def test_renewals_are_answered_while_pages_are_read(suite):
    call = await begun(suite)
    suite.granted = (await call.read()).admitted.lease
    await call.write(prefill_pb2.PrefillRequest(renew=vision_pb2.LeaseRenew()))
    assert (await call.read()).renewed.sequence == 1
    assert suite.worker.thread.in_flight() == 1, "the read goes on"
    suite.fabric.held.clear()
    assert (await suite.finish(call)).source_tokens == 256


async def test_a_defect_leaves_all_to_be_computed(suite, monkeypatch):
    async def broken(address: str, role: str) -> None:
        raise IndexError("no such thing")

    monkeypatch.setattr(suite.worker.peers, "get", broken)
    assert computed_nothing_from_the_source(await suite.finish(await suite.call()))


def slow_reads(suite: Suite, monkeypatch, *seconds: float) -> None:
    """Has pages read one by one, each taking so many seconds of the suite's clock."""
    monkeypatch.setattr(page_lease, "_SLICE_PAGES", 1)
    completed = ReadGroup.completed
    delays = iter(seconds)

    async def slowly(group: ReadGroup) -> None:
        await completed(group)
        suite.clock.now += next(delays)

    monkeypatch.setattr(ReadGroup, "completed", slowly)


@pytest.mark.parametrize(("lease_s", "patience_s"), [(4.0, 30.0)])
async def test_a_lease_is_renewed_while_many_pages_are_read(suite, monkeypatch):
    slow_reads(suite, monkeypatch, *[1.5] * CACHED)
    assert (await suite.finish(await suite.call())).source_tokens == 256


@pytest.mark.parametrize(("lease_s", "patience_s"), [(3.0, 30.0)])
async def test_pages_that_came_before_the_lease_ran_out_are_kept(suite, monkeypatch):
    slow_reads(suite, monkeypatch, 1.0, 1.0, 2.8)  # over for the reader, not for the source yet
    done = await suite.finish(await suite.call())
    assert (done.source_tokens, done.computed_tokens) == (128, 300 - 128)


@pytest.mark.parametrize("fatal_read", [0, 2])
async def test_what_was_read_while_the_source_took_its_reader_for_gone_is_not_trusted(
    suite, monkeypatch, fatal_read
):
    """The source uses its pages again at once: bytes that came by then may be another prompt's."""
    monkeypatch.setattr(page_lease, "_SLICE_PAGES", 1)
    completed = ReadGroup.completed
    reads = []

    async def with_a_broken_handshake(group: ReadGroup) -> None:
        if len(reads) == fatal_read:
            await asyncio.wrap_future(
                suite.lender.loop.call(lambda: suite.lender.engine.lending.reader_gone("prefill-a"))
            )
            suite.lender.bench.kv_pages[:] = -1.0
        reads.append(group)
        await completed(group)

    monkeypatch.setattr(ReadGroup, "completed", with_a_broken_handshake)
    done = await suite.finish(await suite.call())
    assert done.source_tokens == 64 * fatal_read
