"""A call's message is counted before it is built, and is not waited for without end."""

import asyncio
import contextlib
import threading
import traceback
import types

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from perigee.v1 import chat_pb2, generation_pb2, sampling_pb2
from services.common.rpc import interceptors
from services.gateway.byte_budget import ByteBudget
from services.gateway.rpc.request_reader import RequestReader
from services.gateway.rpc.wire_counts import UNCOUNTED_BYTES
from services.gateway.waiting import Waiting
from tests.gateway.suite import open_suite, wait_until

HI = chat_pb2.ChatRequest(
    messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])]
).SerializeToString()


def length_of(data):
    size, out = len(data), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


def field(number, data):
    return bytes([number << 3 | 2]) + length_of(data) + data


# A tool whose schema has fewer lists than one request may have; four of them have more.
LISTS = field(3, b'{"enum":[' + b"[]," * 20_000 + b"[]]}")
COMPLETE, GENERATE = "ChatService/Complete", "GenerationService/Generate"
CASES = [
    (COMPLETE, field(2, b"") * 10_000, "messages"),
    (COMPLETE, HI + field(2, field(2, b"") * 200_000), "messages.content"),
    (COMPLETE, HI + field(2, field(5, b"") * 200_000), "messages.tool_calls"),
    (COMPLETE, HI + field(3, field(8, b"") * 10_000), "sampling.logit_bias"),
    (COMPLETE, HI + field(3, field(15, b"x") * 10_000), "sampling.stop"),
    (COMPLETE, HI + field(3, b"\x70\x07" * 10_000), "sampling.stop_token_ids"),
    (COMPLETE, HI + b"\x98\x06\x00" * 200_000, None),
    (COMPLETE, HI + field(5, b"[" + b"{}," * 100_000 + b"{}]"), "tools_json"),
    (COMPLETE, HI + (b"\xd2\x01" + length_of(b"\x0a\x01x") + b"\x0a\x01x") * 10_000, "tools"),
    (COMPLETE, HI + (b"\xd2\x01" + length_of(LISTS) + LISTS) * 4, "tools"),
    (GENERATE, field(3, field(1, b"\x07" * 2_200_000)), "token_ids.ids"),
    (GENERATE, field(2, b"x") + field(4, field(14, b"\xff\x07" * 10_000)), "sampling.stop_token_ids"),
    ("GenerationService/Detokenize", field(2, b"\x07" * 2_200_000), "token_ids"),
    ("GenerationService/Detokenize", b"\x10\x07" * 200_000, "token_ids"),
    ("GenerationService/Tokenize", b"\x18\x01" * 200_000, "parse_special"),
]


def param_of(error):
    for detail in rpc_status.from_call(error).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            return bad.field_violations[0].field
    return None


async def test_too_many_values_are_refused_by_the_name_of_their_field(suite):
    for method, message, param in CASES:
        call = suite.channel.unary_unary(f"/perigee.v1.{method}", None, None)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(message)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, param)
        assert param_of(raised.value) == param, raised.value.details()
        assert param is None or "at most" in raised.value.details()
    assert not suite.decode.submits


async def test_a_long_message_within_the_bounds_is_served(suite):
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="x")])] * 1500,
        sampling=sampling_pb2.SamplingParams(logit_bias=dict.fromkeys(range(1000), 1.0)),
        cache_salt="s",
    )
    call = suite.channel.unary_unary(f"/perigee.v1.{COMPLETE}", None, chat_pb2.ChatResponse.FromString)
    answer = await call(request.SerializeToString())
    assert answer.choices[0].content == "Hello!"
    ids = generation_pb2.DetokenizeRequest(token_ids=[300] * 500_000).SerializeToString()
    call = suite.channel.unary_unary(
        "/perigee.v1.GenerationService/Detokenize", None, generation_pb2.DetokenizeResponse.FromString
    )
    assert (await call(ids)).text


async def test_what_is_no_message_is_refused_with_its_reason(suite):
    for message in (b"\x12\xff", b"\x0b" * 20_000, b"\xff" * 20_000, b"\x12\xff\xff\xff\x7f" * 5000):
        call = suite.channel.unary_unary(f"/perigee.v1.{COMPLETE}", None, None)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(message)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be decoded" in raised.value.details()


async def test_a_call_without_its_message_is_ended(suite):
    call = suite.channel.stream_unary(f"/perigee.v1.{COMPLETE}", None, None)()
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_whose_message_does_not_come_is_ended_in_time():
    async with open_suite(body_timeout_seconds=0.2) as suite:
        calls = [
            suite.channel.stream_unary(f"/perigee.v1.{COMPLETE}", None, None)(),
            suite.channel.stream_stream("/perigee.v1.ChatService/Stream", None, None)(),
        ]
        for call in calls:
            async with asyncio.timeout(10):
                assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await suite.chat()).status_code == 200


async def test_of_too_many_calls_without_a_message_the_oldest_is_ended(monkeypatch):
    entered = []
    enter = Waiting.enter
    monkeypatch.setattr(Waiting, "enter", lambda waiting, *who: entered.append(who) or enter(waiting, *who))
    async with open_suite(max_waiting_connections=4, max_concurrent_requests=2) as suite:
        held, before = [], len(entered)
        for _ in range(8):
            held.append(suite.channel.stream_unary(f"/perigee.v1.{COMPLETE}", None, None)())
            await wait_until(lambda: len(entered) - before == len(held))
        async with asyncio.timeout(10):
            for call in held[:4]:
                assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        call = suite.channel.unary_unary(f"/perigee.v1.{COMPLETE}", None, chat_pb2.ChatResponse.FromString)
        assert (await call(HI)).choices[0].content == "Hello!"
        assert not any(call.done() for call in held[5:])
        await held[-1].write(HI)
        await held[-1].done_writing()
        assert b"Hello!" in await held[-1]


async def test_messages_that_are_being_answered_count_against_the_bytes_held():
    async with open_suite(max_held_bytes=20_000, max_body_bytes=20_000) as suite:
        suite.decode.admit.clear()
        call = suite.channel.unary_unary(f"/perigee.v1.{COMPLETE}", None, None)
        first = asyncio.ensure_future(_code(call(HI)))
        await wait_until(lambda: suite.decode.submits)
        salts = [field(6, b"x" * size) for size in (19_000, 19_996)]
        codes = [await _code(call(salt)) for salt in salts]
        assert codes == [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED]
        suite.decode.admit.set()
        assert await first is grpc.StatusCode.OK


async def _code(call):
    return await call.code()


async def test_a_message_is_counted_beside_the_event_loop():
    threads = []

    class Calls:
        @contextlib.asynccontextmanager
        async def reading(self, context, method):
            yield

        async def answering(self, context):
            pass

        def tenant(self, context, method):
            return None

    class Counts:
        def check(self, data, kind):
            threads.append(threading.get_ident())

    async def behaviour(request, context):
        return request

    async def continuation(details):
        return grpc.unary_unary_rpc_method_handler(behaviour, chat_pb2.ChatRequest.FromString)

    class Context:
        async def read(self):
            return b"\x48\x00" * (UNCOUNTED_BYTES // 2)

    reader = RequestReader(Calls(), Counts(), ByteBudget(1 << 20), Waiting(8), 5.0)
    handler = await reader.intercept_service(continuation, types.SimpleNamespace(method=COMPLETE))
    assert isinstance(await handler.stream_unary(None, Context()), chat_pb2.ChatRequest)
    assert threads
    assert threading.get_ident() not in threads


async def test_the_error_of_a_refused_call_does_not_know_its_message(suite, monkeypatch):
    errors, answered = [], interceptors.to_status

    def noted(error, request_id):
        errors.append(error)
        return answered(error, request_id)

    monkeypatch.setattr(interceptors, "to_status", noted)
    long = chat_pb2.ContentPart(text="x" * 100_000)
    # One is refused by what is read first, the other by what is made of it.
    for request in (
        chat_pb2.ChatRequest(messages=[chat_pb2.Message(role="user")] * 10_000),
        chat_pb2.ChatRequest(messages=[chat_pb2.Message(role="user", content=[long])], tools_json=b"no JSON"),
    ):
        call = suite.channel.unary_unary(f"/perigee.v1.{COMPLETE}", None, None)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(request.SerializeToString())
    assert len(errors) == 2
    for error in errors:
        assert error.__cause__ is error.__context__ is None
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        known = [value for frame in frames for value in frame.f_locals.values()]
        assert not any(isinstance(value, bytes | chat_pb2.ChatRequest) for value in known)
