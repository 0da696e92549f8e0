"""Workers that come and go."""

import asyncio

import pytest

from perigee.v1 import decode_pb2, sampling_pb2, worker_pb2
from services.gateway.workers.pool import DECODE, PREFILL, VISION, WorkerPool
from services.gateway.workers.stream.inbox import Inbox
from tests.gateway.fakes import FakeDecode, FakeServer, FakeWorker
from tests.gateway.suite import wait_until
from tests.support.endpoints import ENDPOINTS


@pytest.fixture
async def pool():
    made = WorkerPool("v:1", "p:1", "d:1", ENDPOINTS)
    tidying = asyncio.create_task(made.run())
    yield made
    tidying.cancel()
    await made.stop()


@pytest.fixture
async def decoder():
    fake = FakeDecode(lambda submit, choice: [5] * 50, step_s=0.02)
    server = await FakeServer.start(FakeWorker(DECODE), fake)
    yield server
    await server.stop()


def submit_to(worker):
    news = Inbox()
    sampling = sampling_pb2.SamplingParams(n=1, max_tokens=50)
    return news, worker.session.submit(decode_pb2.Submit(prompt_token_ids=[1], sampling=sampling), news)


async def test_a_found_worker_is_watched_and_a_lost_idle_one_is_closed(pool, decoder):
    pool.update(DECODE, [decoder.address])
    await wait_until(lambda: pool.decode.serving)
    pool.update(DECODE, [])
    assert not pool.decode.serving
    assert pool.find(decoder.address).state == "leaving"
    await wait_until(lambda: not pool.decode.workers)
    assert pool.find(decoder.address) is None


async def test_a_worker_that_leaves_discovery_keeps_its_streams_to_their_end(pool, decoder):
    pool.update(DECODE, [decoder.address])
    await wait_until(lambda: pool.decode.serving)
    news, stream = submit_to(pool.decode.workers[0])
    await asyncio.wait_for(news.wait(), 5)
    pool.update(DECODE, [])
    tokens = 0
    while not stream.finished:
        await asyncio.wait_for(news.wait(), 5)
        _, delta = news.take()
        tokens += len(delta.token_ids)
    assert tokens == 50
    assert pool.decode.workers
    stream.close()
    await wait_until(lambda: not pool.decode.workers)


async def test_a_worker_that_is_found_again_serves_again_over_the_same_session(pool, decoder):
    pool.update(DECODE, [decoder.address])
    await wait_until(lambda: pool.decode.serving)
    worker = pool.decode.workers[0]
    _, stream = submit_to(worker)
    pool.update(DECODE, [])
    pool.update(DECODE, [decoder.address])
    assert pool.decode.serving == [worker]
    stream.close()


async def test_a_vision_worker_with_a_call_open_is_not_closed_yet(pool):
    server = await FakeServer.start(FakeWorker(VISION))
    pool.update(VISION, [server.address])
    await wait_until(lambda: pool.vision.serving)
    link = pool.find(server.address)
    link.calls += 1
    pool.update(VISION, [])
    assert pool.vision.take_left() == []
    assert pool.find(server.address) is link
    link.calls -= 1
    await wait_until(lambda: not pool.vision.workers)
    await server.stop()


async def test_roles_are_missing_until_somebody_serves_them(pool, decoder):
    assert pool.missing_roles() == ("vision", "prefill", "decode")
    pool.update(DECODE, [decoder.address])
    pool.update(PREFILL, ["127.0.0.1:1"])
    await wait_until(lambda: pool.decode.serving)
    assert pool.missing_roles() == ("vision", "prefill")


async def test_a_role_that_is_not_configured_is_not_missing():
    pool = WorkerPool("", "", "d:1", ENDPOINTS)
    assert pool.missing_roles() == ("decode",)


async def test_handles_are_unique_over_all_sessions(pool):
    fakes = [FakeDecode(lambda submit, choice: [5]) for _ in range(2)]
    servers = [await FakeServer.start(FakeWorker(DECODE), fake) for fake in fakes]
    pool.update(DECODE, [server.address for server in servers])
    await wait_until(lambda: len(pool.decode.serving) == 2)
    streams = [submit_to(worker)[1] for worker in pool.decode.workers for _ in range(3)]
    assert len({stream.handle for stream in streams}) == 6
    for server in servers:
        await server.stop()


async def test_holders_are_the_serving_workers_that_have_the_first_entry(pool, decoder):
    worker = FakeWorker(DECODE)
    worker.load.cache.CopyFrom(worker_pb2.CacheChanges(reset=True, added=[1, 2, 4]))
    other = await FakeServer.start(worker, FakeDecode(lambda submit, choice: []))
    pool.update(DECODE, [decoder.address, other.address])
    await wait_until(lambda: len(pool.decode.serving) == 2)
    holder = next(each for each in pool.decode.workers if each.link.address == other.address)
    assert pool.decode.holders([1, 2, 3, 4]) == {holder: 2}
    assert pool.decode.holders([3, 1]) == {}
    pool.update(DECODE, [decoder.address])
    assert pool.decode.holders([1]) == {}
    await wait_until(lambda: len(pool.decode.workers) == 1)
    assert pool.decode.holders([1]) == {}
    await other.stop()
