"""PrefillService over real gRPC."""

from __future__ import annotations

import asyncio
import gc

import grpc
import pytest
import torch

from perigee.v1 import prefill_pb2, prefill_pb2_grpc, vision_pb2
from services.common.errors import InvalidRequest, MediaLost, Unavailable
from services.common.rpc.status import from_rpc_error
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from tests.support.decode_bench import medium, prompt_of
from tests.support.fake_runner import HIDDEN, fake_pages, read_context
from tests.support.owner import peer_directory, transfer_thread
from tests.support.prefill_worker import PrefillWorker
from tests.support.waiting import until


class Suite:
    """A prefill worker and a reader that is paired with it."""

    def __init__(self) -> None:
        fabric = MemoryFabric()
        self.worker = PrefillWorker("prefill-a", fabric)
        pages = fake_pages(4)
        self.thread = transfer_thread("reader", fabric, pages, torch.zeros(2, 64, HIDDEN))
        self.peers = peer_directory("reader-1", self.thread, pages)

    async def start(self) -> None:
        await self.worker.start()
        self.peer = await self.peers.get(self.worker.address, "prefill")

    def call(self) -> grpc.aio.StreamStreamCall:
        return prefill_pb2_grpc.PrefillServiceStub(self.peer.channel).Prefill()

    async def begin(self, token_ids: list[int], **fields) -> grpc.aio.StreamStreamCall:
        """A call whose start is sent."""
        defaults = {
            "reader_incarnation": "reader-1",
            "reader_token": self.peer.token,
            "lease_key": self.peers.next_lease_key(),
        }
        call = self.call()
        start = prefill_pb2.PrefillStart(token_ids=token_ids, **(defaults | fields))
        await call.write(prefill_pb2.PrefillRequest(start=start))
        return call

    async def close(self) -> None:
        await self.peers.close()
        await self.worker.stop()
        self.thread.close()


@pytest.fixture
async def suite():
    suite = Suite()
    await suite.start()
    yield suite
    await suite.close()


RENEW = prefill_pb2.PrefillRequest(renew=vision_pb2.LeaseRenew())


def release_of(lease: vision_pb2.LeaseGrant, **other: int) -> prefill_pb2.PrefillRequest:
    """What gives a lease back, or, with `other` fields, another one."""
    named = {"lease_id": lease.lease_id, "generation": lease.generation} | other
    return prefill_pb2.PrefillRequest(release=vision_pb2.LeaseRelease(**named))


async def hear(call, *until_kind: str) -> list[prefill_pb2.PrefillResponse]:
    """Messages up to and including the first of a kind given, or the end of the stream."""
    heard = []
    while isinstance(message := await call.read(), prefill_pb2.PrefillResponse):
        heard.append(message)
        if message.WhichOneof("message") in until_kind:
            break
    return heard


async def test_a_prompt_is_admitted_announced_done_renewed_and_released(suite):
    call = await suite.begin(prompt_of(150), reader_cached_pages=1)
    heard = await hear(call, "done")
    kinds = [message.WhichOneof("message") for message in heard]
    assert kinds == ["admitted", *["ready"] * 4, "done"]
    admitted = heard[0].admitted
    assert (len(admitted.pages), admitted.cached_tokens, admitted.lease.duration_ms) == (2, 0, 10_000)
    assert {(m.ready.first_page, m.ready.first_layer, m.ready.end_layer) for m in heard[1:-1]} == {
        (index, layer, layer + 1) for index in (1, 2) for layer in (0, 1)
    }
    assert all(len(message.ready.crc32) == 1 for message in heard[1:-1])
    entries = suite.worker.kv_pages[list(admitted.pages), 0].flatten(0, 1)[: 150 - 64, 0] - 1
    assert entries.tolist() == prompt_of(150)[64:]
    for sequence in (1, 2):
        await call.write(RENEW)
        assert (await call.read()).renewed.sequence == sequence
    await call.write(release_of(admitted.lease))
    await call.done_writing()
    (last,) = await hear(call)
    assert last.released.generation == admitted.lease.generation > 0
    assert await call.code() == grpc.StatusCode.OK
    await until(suite.worker.is_free)


@pytest.mark.parametrize("other", [{"lease_id": 0}, {"lease_id": 99}, {"generation": 0}, {"generation": 99}])
async def test_a_release_of_another_lease_is_refused_and_ends_the_call(suite, other):
    call = await suite.begin(prompt_of(150), lease_key=77)
    lease = (await hear(call, "done"))[0].admitted.lease
    await call.write(release_of(lease, **other))
    (last,) = await hear(call)
    assert last.refused.reason == prefill_pb2.PREFILL_REFUSAL_LEASE_EXPIRED
    await until(suite.worker.is_free)


async def test_a_release_of_a_lease_that_is_not_held_any_more_is_refused(suite):
    call = await suite.begin(prompt_of(150), lease_key=77)
    lease = (await hear(call, "done"))[0].admitted.lease
    suite.peer.settle([77])
    await until(suite.worker.is_free)
    await call.write(release_of(lease))
    (last,) = await hear(call)
    assert last.refused.reason == prefill_pb2.PREFILL_REFUSAL_LEASE_EXPIRED
    assert await call.code() == grpc.StatusCode.OK


async def test_a_half_closed_stream_without_a_release_is_no_release(suite, monkeypatch):
    received_all, receive = asyncio.Event(), suite.worker.servicer._receive

    async def receive_to_the_end(job, requests):
        await receive(job, requests)
        received_all.set()

    monkeypatch.setattr(suite.worker.servicer, "_receive", receive_to_the_end)
    call = await suite.begin(prompt_of(150))
    await hear(call, "done")
    await call.done_writing()
    await asyncio.wait_for(received_all.wait(), 5)
    await asyncio.wrap_future(suite.worker.loop.call(suite.worker.engine.step))
    assert suite.worker.engine.load.pages.leased == 3
    call.cancel()
    await until(lambda: suite.worker.engine.load.pages.quarantined == 3)


async def test_pages_of_a_cancelled_call_wait_for_the_readers_word(suite):
    call = await suite.begin(prompt_of(150), lease_key=77)
    await hear(call, "admitted")
    call.cancel()
    await until(lambda: suite.worker.engine.load.pages.quarantined == 3)
    suite.peer.settle([77])
    await until(suite.worker.is_free)


async def test_a_reader_that_disconnects_while_its_call_is_open_ends_the_call(suite):
    suite.worker.embeddings.gate.clear()
    call = await suite.begin(prompt_of(150), media=[medium(3, 5).to_proto()])
    await hear(call, "admitted")
    suite.worker.loop.post(lambda: suite.worker.engine.reader_gone("reader-1"))
    heard = await hear(call)
    assert heard[-1].refused.reason == prefill_pb2.PREFILL_REFUSAL_FAILED
    assert await call.code() == grpc.StatusCode.OK
    await until(suite.worker.is_free)


async def test_a_message_that_cannot_be_decoded_ends_the_call_and_is_no_defect(suite, caplog):
    token_ids, key = prompt_of(150), suite.peers.next_lease_key()
    start = prefill_pb2.PrefillStart(
        token_ids=token_ids, reader_incarnation="reader-1", reader_token=suite.peer.token, lease_key=key
    )
    call = suite.peer.channel.stream_stream("/perigee.v1.PrefillService/Prefill")()
    await call.write(prefill_pb2.PrefillRequest(start=start).SerializeToString())
    await call.write(b"\xff\xff")
    heard = []
    while isinstance(message := await call.read(), bytes):
        heard.append(prefill_pb2.PrefillResponse.FromString(message))
    assert heard[-1].refused.reason == prefill_pb2.PREFILL_REFUSAL_FAILED
    assert "cannot be decoded" in heard[-1].refused.message
    suite.peer.settle([key])
    await until(suite.worker.is_free)
    gc.collect()
    assert caplog.records == []


async def test_embeddings_are_fetched_and_take_the_place_of_pads(suite):
    call = await suite.begin(prompt_of(100), media=[medium(3, 5).to_proto()])
    heard = await hear(call, "done")
    tokens = read_context(suite.worker.kv_pages, heard[0].admitted.pages, 100)
    assert tokens[2:9] == [t + (3 if 3 <= i < 8 else 0) for i, t in enumerate(prompt_of(100))][2:9]
    call.cancel()


async def test_lost_embeddings_are_refused_with_a_reason(suite):
    suite.worker.embeddings.error = MediaLost("evicted")
    call = await suite.begin(prompt_of(100), media=[medium(3, 5).to_proto()])
    heard = await hear(call)
    assert heard[-1].refused.reason == prefill_pb2.PREFILL_REFUSAL_MEDIA_LOST
    assert heard[-1].refused.message == "evicted"


@pytest.mark.parametrize(
    ("token_ids", "fields", "kind"),
    [
        ([], {}, InvalidRequest),
        ([64], {}, InvalidRequest),
        ([1] * 2048, {}, InvalidRequest),
        ([1], {"lease_key": 0}, InvalidRequest),
        ([1] * 64, {"reader_cached_pages": 1}, InvalidRequest),
        ([1], {"reader_incarnation": "a-stranger"}, Unavailable),
        ([1], {"reader_token": b""}, Unavailable),
        ([1], {"reader_token": bytes(16)}, Unavailable),
        ([1] * 5, {"media": [medium(3, 4).to_proto()]}, InvalidRequest),
    ],
)
async def test_a_start_that_is_wrong_is_refused_before_anything_is_held(suite, token_ids, fields, kind):
    call = await suite.begin(token_ids, **fields)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), kind)
    assert suite.worker.is_free()


async def test_a_call_that_does_not_begin_with_start_is_refused(suite):
    call = suite.call()
    await call.write(RENEW)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), InvalidRequest)
