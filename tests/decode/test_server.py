"""DecodeService over real gRPC, over an engine with a straw model."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import grpc
import pytest

from perigee.v1 import decode_pb2, decode_pb2_grpc, sampling_pb2, vision_pb2
from services.decode.constraint.maker import ConstraintMaker
from services.decode.request import Delta
from services.decode.server import DecodeServicer, to_response
from services.engine.sampling.sampler import SampledToken
from services.engine.serving.loop import EngineLoop
from services.families.kimi.family import KIMI
from tests.support.decode_bench import Bench, prompt_of
from tests.support.endpoints import bind, build_server, open_channel
from tests.support.fake_runner import VOCAB, greedy
from tests.support.manual_clock import ManualClock
from tests.support.responses import deltas_of
from tests.support.waiting import until

CONTEXT = 512
LENGTH, CANCELLED, ERROR = (
    sampling_pb2.FINISH_REASON_LENGTH,
    sampling_pb2.FINISH_REASON_CANCELLED,
    sampling_pb2.FINISH_REASON_ERROR,
)


class Worker:
    """A decode worker's server and engine thread; its outside is of straw."""

    def __init__(self, model: Path) -> None:
        self.clock = ManualClock()
        self.bench = Bench(16, clock=self.clock, context_length=CONTEXT)
        self.failures: list[BaseException] = []
        self.loop = EngineLoop("decode", self.bench.engine.step, self.failures.append, idle_wait_s=0.01)
        constraints = ConstraintMaker(partial(KIMI.read_grammar_tokens, model), VOCAB)
        self.servicer = DecodeServicer(
            self.bench.engine, self.loop, constraints, VOCAB, CONTEXT, 60.0, self.clock
        )

    async def start(self) -> None:
        self.server = build_server()
        decode_pb2_grpc.add_DecodeServiceServicer_to_server(self.servicer, self.server)
        port = bind(self.server, "127.0.0.1", 0)
        await self.server.start()
        self.loop.start()
        self.channel = open_channel(f"127.0.0.1:{port}")
        self.stub = decode_pb2_grpc.DecodeServiceStub(self.channel)

    def is_free(self) -> bool:
        load = self.bench.engine.load
        return not (load.running or load.waiting or load.pages.used)

    async def stop(self) -> None:
        await self.channel.close()
        await self.server.stop(grace=None)
        self.loop.stop()
        assert self.failures == []


@pytest.fixture
async def worker(nano_dir):
    worker = Worker(nano_dir)
    await worker.start()
    yield worker
    await worker.stop()


def submit(handle: int, prompt: list[int], max_tokens: int | None = 4, **fields) -> decode_pb2.SessionRequest:
    sampling = sampling_pb2.SamplingParams(temperature=0, seed=1, **fields.pop("sampling", {}))
    if max_tokens is not None:
        sampling.max_tokens = max_tokens
    message = decode_pb2.Submit(handle=handle, prompt_token_ids=prompt, sampling=sampling, **fields)
    return decode_pb2.SessionRequest(submits=[message])


async def deltas(session, finishes: int = 1) -> list[decode_pb2.SequenceDelta]:
    """News up to the given number of finishes."""
    heard: list[decode_pb2.SequenceDelta] = []
    while sum(bool(delta.finish_reason) for delta in heard) < finishes:
        response = await session.read()
        assert isinstance(response, decode_pb2.SessionResponse)
        news = deltas_of(response)
        assert news or response.accepted_handles
        heard.extend(news)
    return heard


def tokens(heard: list[decode_pb2.SequenceDelta], choice: int = 0) -> list[int]:
    return [token for delta in heard if delta.choice == choice for token in delta.token_ids]


async def test_tokens_come_as_they_are_made_with_stats_first_and_one_finish_last(worker):
    session = worker.stub.Session()
    await session.write(submit(1, prompt_of(10), 5))
    heard = await deltas(session)
    assert [len(delta.token_ids) for delta in heard] == [1] * 5
    assert tokens(heard) == greedy(prompt_of(10), 5)
    assert [delta.HasField("stats") for delta in heard] == [True, False, False, False, False]
    assert [delta.finish_reason for delta in heard] == [0, 0, 0, 0, LENGTH]
    await until(worker.is_free)


async def test_requests_of_one_session_share_its_batches(worker):
    session = worker.stub.Session()
    for handle in (1, 2, 3):
        await session.write(submit(handle, prompt_of(10, handle), 20))
    heard = await deltas(session, 3)
    for handle in (1, 2, 3):
        mine = [delta for delta in heard if delta.handle == handle]
        assert tokens(mine) == greedy(prompt_of(10, handle), 20)


def test_a_token_that_was_cut_is_told_as_such():
    taken, drawn = SampledToken(5, drawn_id=9), SampledToken(5)
    response = to_response([Delta(1, 0, (taken,)), Delta(2, 0, (drawn,))])
    assert [(delta.handle, delta.is_cut) for delta in response.deltas] == [(1, True)]
    assert list(response.tokens.handles) == [2]


async def test_logprobs_come_with_every_token_when_asked_for(worker):
    session = worker.stub.Session()
    await session.write(submit(1, [5], 3, sampling={"logprobs": True, "top_logprobs": 2}))
    heard = await deltas(session)
    logprobs = [entry for delta in heard for entry in delta.logprobs]
    assert [entry.sampled.token_id for entry in logprobs] == tokens(heard)
    assert all(-0.01 < entry.sampled.logprob <= 0 and len(entry.top) == 2 for entry in logprobs)


async def test_without_max_tokens_a_choice_may_fill_the_context(worker):
    session = worker.stub.Session()
    await session.write(submit(1, prompt_of(CONTEXT - 3), None))
    assert len(tokens(await deltas(session))) == 3


async def test_a_cancel_ends_every_choice_and_frees_the_pages(worker):
    session = worker.stub.Session()
    await session.write(submit(1, prompt_of(10), 400, sampling={"n": 2}))
    await session.read()
    await session.write(decode_pb2.SessionRequest(cancels=[decode_pb2.Cancel(handle=1)]))
    heard = await deltas(session, 2)
    assert [delta.finish_reason for delta in heard][-2:] == [CANCELLED, CANCELLED]
    assert not heard[-1].HasField("error")
    await until(worker.is_free)


@pytest.mark.parametrize("end", ["cancel", "half-close", "channel"])
async def test_the_end_of_a_session_ends_all_it_submitted(worker, end):
    session = worker.stub.Session()
    await session.write(submit(1, prompt_of(10), 400))
    await session.write(submit(2, prompt_of(300), 4, prefill_addresses=["prefill:1"]))
    await session.read()
    await until(lambda: worker.bench.io.orders)
    if end == "cancel":
        session.cancel()
    elif end == "half-close":
        await session.done_writing()
    else:
        await worker.channel.close()
    await until(lambda: worker.bench.io.stopped)
    worker.loop.post(lambda: worker.bench.fail(RuntimeError("stopped")))
    await until(worker.is_free)


WRONG = [
    ({"handle": 0}, "handle"),
    ({"prompt": []}, "prompt_token_ids is empty"),
    ({"prompt": [VOCAB]}, "token id is not below"),
    ({"output_token_ids": [VOCAB]}, "token id is not below"),
    ({"output_token_ids": [1], "sampling": {"n": 2}}, "one choice only"),
    ({"prompt": [1] * CONTEXT}, f"takes {CONTEXT - 1} at most"),
    ({"sampling": {"n": 17}}, "n is 17"),
    ({"first_choice": 15, "sampling": {"n": 2}}, "15 is the last one"),
    ({"sampling": {"top_k": 0, "min_p": 3.0}}, "min_p"),
    ({"sampling": {"stop_token_ids": [VOCAB]}}, "stop_token_ids"),
    ({"media": [vision_pb2.MediaRef(content_hash=b"h" * 32, num_tokens=2, token_offset=9)]}, "media"),
]


@pytest.mark.parametrize(("fields", "says"), WRONG)
async def test_a_submit_that_is_wrong_in_itself_is_answered_and_the_session_goes_on(worker, fields, says):
    session = worker.stub.Session()
    fields = {"handle": 1, "prompt": prompt_of(10), **fields}
    await session.write(submit(**fields))
    response = await session.read()
    assert {delta.finish_reason for delta in response.deltas} == {ERROR}
    assert response.deltas[0].HasField("error")
    error = response.deltas[0].error
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "INVALID_REQUEST")
    assert says in error.message
    await session.write(submit(7, prompt_of(10), 2))
    assert tokens(await deltas(session)) == greedy(prompt_of(10), 2)


async def test_two_submits_with_one_handle_are_answered_once_each(worker):
    session = worker.stub.Session()
    await session.write(submit(1, prompt_of(10), 100))
    await session.write(submit(1, prompt_of(20), 100))
    heard = await deltas(session, 2)
    assert tokens(heard) == greedy(prompt_of(10), 100)
    refused = next(delta for delta in heard if delta.finish_reason == ERROR)
    assert "in use" in refused.error.message
    await until(worker.is_free)


async def test_a_timeout_is_counted_from_the_submit(worker):
    session = worker.stub.Session()
    await session.write(submit(1, prompt_of(300), 4, prefill_addresses=["prefill:1"], timeout_ms=100))
    await until(lambda: worker.bench.io.orders)
    worker.clock.now += 0.101
    heard = await asyncio.wait_for(deltas(session), 5)
    assert heard[0].error.reason == "DEADLINE_EXCEEDED"
    worker.loop.post(lambda: worker.bench.fail(RuntimeError("stopped")))


async def test_a_defect_in_hearing_ends_the_session_instead_of_leaving_submits_unanswered(
    worker, monkeypatch
):
    def broken(session, message):
        raise ZeroDivisionError

    monkeypatch.setattr(worker.servicer, "_request", broken)
    session = worker.stub.Session()
    await session.write(submit(1, prompt_of(10)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(session.read(), 5)
    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_a_gateway_that_does_not_keep_up_loses_its_session(worker, monkeypatch):
    monkeypatch.setattr("services.decode.server._MAX_BATCHES_BEHIND", 3)

    async def hear(session, messages, batches):
        for _ in range(5):
            batches.put_nowait([])

    monkeypatch.setattr(worker.servicer, "_hear", hear)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(worker.stub.Session().read(), 5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_media_of_a_submit_reach_the_engine(worker):
    session = worker.stub.Session()
    ref = vision_pb2.MediaRef(
        content_hash=b"h" * 32, token_offset=2, num_tokens=3, address="vision:1", incarnation="v"
    )
    await session.write(submit(1, prompt_of(10), 2, media=[ref]))
    await until(lambda: worker.bench.io.media)
    worker.loop.post(worker.bench.give_media)
    heard = await deltas(session)
    expected = [t + (3 if 2 <= i < 5 else 0) for i, t in enumerate(prompt_of(10))]
    assert tokens(heard) == greedy(expected, 2)


async def test_a_request_is_reported_as_accepted_before_its_first_token(worker):
    session = worker.stub.Session()
    await session.write(submit(7, prompt_of(10), 2))
    first = await session.read()
    assert (list(first.accepted_handles), list(first.deltas), len(first.tokens.handles)) == ([7], [], 0)
    await deltas(session)
