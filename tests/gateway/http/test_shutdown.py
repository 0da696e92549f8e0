"""What clients see of requests that outlast the grace of a gateway that stops."""

import asyncio
import json

import grpc
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.common.errors import ShuttingDown
from services.common.graces import GATEWAY_CLOSE_S
from services.common.rpc.status import from_rpc_error
from tests.gateway.suite import chat_body, open_suite, wait_until
from tests.support.waiting import scaled


def one_message():
    request = chat_pb2.ChatRequest()
    request.messages.add(role="user").content.add(text="hi")
    return request


async def events_of(suite):
    """The data of a stream's events, to its end."""
    async with suite.http.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as answer:
        return [line.removeprefix("data: ") async for line in answer.aiter_lines() if line]


async def status_of(stream):
    """The error with which a gRPC stream ends, and how many messages came before."""
    seen = 0
    try:
        async for _ in stream:
            seen += 1
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error), seen
    raise AssertionError("the stream ended well")


async def test_streams_that_outlast_the_grace_end_with_a_clear_event_or_status_and_the_gateway_is_gone():
    async with open_suite() as suite:
        suite.say("All work and no play. " * 400)
        suite.decode.step_s = 0.01
        rest = [asyncio.create_task(events_of(suite)) for _ in range(3)]
        grpc_streams = [
            asyncio.create_task(status_of(chat_pb2_grpc.ChatServiceStub(suite.channel).Stream(one_message())))
            for _ in range(3)
        ]
        await wait_until(lambda: len(suite.decode.submits) == 6 and suite.decode.sent > 30)
        async with asyncio.timeout(scaled(GATEWAY_CLOSE_S)):
            await suite.gateway.stop()
        for events in await asyncio.gather(*rest):
            assert len(events) > 2
            error = json.loads(events[-1])["error"]
            assert (error["code"], error["type"]) == ("shutting_down", "server_error")
        for error, seen in await asyncio.gather(*grpc_streams):
            assert seen
            assert isinstance(error, ShuttingDown)
        await wait_until(lambda: len(suite.decode.cancels) == 6)


async def test_answers_that_are_not_streamed_end_as_unavailable_with_the_reason():
    async with open_suite() as suite:
        suite.decode.admit.clear()
        chat = asyncio.create_task(suite.chat())
        complete = chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(one_message())
        await wait_until(lambda: len(suite.decode.submits) == 2)
        await suite.gateway.stop()
        answer = await chat
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await complete
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert isinstance(from_rpc_error(caught.value), ShuttingDown)
