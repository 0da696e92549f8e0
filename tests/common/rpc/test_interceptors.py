from __future__ import annotations

import asyncio

import grpc
import pytest
import structlog

from perigee.v1 import chat_pb2, chat_pb2_grpc, prefill_pb2, prefill_pb2_grpc
from services.common.errors import InternalError, InvalidRequest, Overloaded, Unavailable
from services.common.rpc.status import from_rpc_error, to_status


class Chat(chat_pb2_grpc.ChatServiceServicer):
    def __init__(self, error=None):
        self.error = error
        self.ended = asyncio.Event()

    async def Complete(self, request, context):
        if self.error:
            raise self.error
        return chat_pb2.ChatResponse(id=request.model)

    async def Stream(self, request, context):
        try:
            for number in range(3):
                yield chat_pb2.ChatChunk(id=str(number))
            if self.error:
                raise self.error
            if request.model == "endless":
                await asyncio.Event().wait()
            while request.model == "flood":
                yield chat_pb2.ChatChunk(id="x" * 100_000)
        finally:
            self.ended.set()


class Prefill(prefill_pb2_grpc.PrefillServiceServicer):
    async def Prefill(self, request_iterator, context):
        async for _ in request_iterator:
            yield prefill_pb2.PrefillResponse()
        raise Overloaded("full", 4.0)


async def test_an_answer_passes_unchanged(serving):
    async with serving(chat=Chat()) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        assert (await stub.Complete(chat_pb2.ChatRequest(model="m"))).id == "m"
        assert [chunk.id async for chunk in stub.Stream(chat_pb2.ChatRequest())] == ["0", "1", "2"]


async def test_an_error_of_a_unary_method_reaches_the_client_whole(serving):
    async with serving(chat=Chat(InvalidRequest("bad", "messages[0].role"))) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await chat_pb2_grpc.ChatServiceStub(channel).Complete(chat_pb2.ChatRequest())
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidRequest)
    assert (error.message, error.param) == ("bad", "messages[0].role")


@pytest.mark.parametrize("method", ["Complete", "Stream"])
async def test_a_request_that_cannot_be_decoded_is_the_callers_fault(serving, method):
    async with serving(chat=Chat()) as channel:
        call = channel.unary_stream(f"/perigee.v1.ChatService/{method}")(b"\x0a\x02\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert isinstance(from_rpc_error(caught.value), InvalidRequest)


async def test_an_error_forgets_what_it_went_through_because_grpc_keeps_it_until_garbage_is_collected(
    serving,
):
    error = Overloaded("full")
    error.__context__ = ValueError("inner")
    async with serving(chat=Chat(error)) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Complete(chat_pb2.ChatRequest())
        assert error.__traceback__ is error.__context__ is None
        with pytest.raises(grpc.aio.AioRpcError):
            [chunk async for chunk in stub.Stream(chat_pb2.ChatRequest())]
        assert error.__traceback__ is None


async def test_an_error_in_mid_stream_follows_what_was_sent(serving):
    async with serving(chat=Chat(Unavailable("decode died"))) as channel:
        call = chat_pb2_grpc.ChatServiceStub(channel).Stream(chat_pb2.ChatRequest())
        assert [(await call.read()).id for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "decode died"


async def test_an_error_of_a_bidirectional_method_reaches_the_client(serving):
    async with serving(prefill=Prefill()) as channel:
        call = prefill_pb2_grpc.PrefillServiceStub(channel).Prefill(iter([prefill_pb2.PrefillRequest()]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [message async for message in call]
    error = from_rpc_error(caught.value)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 4.0


async def test_an_unexpected_exception_is_logged_with_the_id_the_client_gets(serving):
    with structlog.testing.capture_logs() as lines:
        async with serving(chat=Chat(KeyError("secret"))) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await chat_pb2_grpc.ChatServiceStub(channel).Complete(chat_pb2.ChatRequest())
    (line,) = [line for line in lines if line["event"] == "unexpected error"]
    error = from_rpc_error(caught.value)
    assert isinstance(error, InternalError)
    assert "secret" not in error.message
    assert line["request_id"] in error.message
    assert line["method"] == "/perigee.v1.ChatService/Complete"
    assert "KeyError" in line["exception"]
    assert "secret" not in str(line)


async def test_a_failed_call_of_the_handler_keeps_its_meaning(serving):
    inner = to_status(Overloaded("full"))
    failure = grpc.aio.AioRpcError(
        inner.code, grpc.aio.Metadata(), grpc.aio.Metadata(*inner.trailing_metadata), "full"
    )
    async with serving(chat=Chat(failure)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await chat_pb2_grpc.ChatServiceStub(channel).Complete(chat_pb2.ChatRequest())
    assert isinstance(from_rpc_error(caught.value), Overloaded)


@pytest.mark.parametrize("model", ["endless", "flood"])
async def test_a_client_that_leaves_ends_the_handler_at_once(serving, model):
    chat = Chat()
    async with serving(chat=chat) as channel:
        call = chat_pb2_grpc.ChatServiceStub(channel).Stream(chat_pb2.ChatRequest(model=model))
        await call.read()
        call.cancel()
        await asyncio.wait_for(chat.ended.wait(), 30)


async def test_an_unknown_method_is_unimplemented(serving):
    async with serving() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await chat_pb2_grpc.ChatServiceStub(channel).Complete(chat_pb2.ChatRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
