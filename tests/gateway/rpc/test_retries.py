"""What lets gRPC clients retry by themselves: the delay in a failed status, and gRPC's own service config."""

from __future__ import annotations

import asyncio
import contextlib
import json

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from perigee.v1 import chat_pb2, chat_pb2_grpc, decode_pb2
from tests.gateway.suite import chat_body, open_suite, wait_until
from tests.support.waiting import let_tasks_run

POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.01s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
}
CONFIG = json.dumps(
    {"methodConfig": [{"name": [{"service": "perigee.v1.ChatService"}], "retryPolicy": POLICY}]}
)
REQUEST = chat_pb2.ChatRequest(
    messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])]
)


@contextlib.asynccontextmanager
async def retrying(suite):
    address = f"127.0.0.1:{suite.gateway.grpc_port}"
    async with grpc.aio.insecure_channel(address, [("grpc.service_config", CONFIG)]) as channel:
        yield chat_pb2_grpc.ChatServiceStub(channel)


def refuse(suite, times):
    suite.decode.refuse = decode_pb2.RequestError(code=8, reason="OVERLOADED", message="full")
    suite.decode.refusals = times


@pytest.mark.parametrize("method", ["Complete", "Stream"])
async def test_a_refused_call_is_tried_again_until_it_is_answered(method):
    async with open_suite() as suite, retrying(suite) as chat:
        refuse(suite, 2)
        if method == "Complete":
            content = (await chat.Complete(REQUEST)).choices[0].content
        else:
            deltas = [delta async for chunk in chat.Stream(REQUEST) for delta in chunk.deltas]
            content = "".join(delta.content for delta in deltas)
        assert content == "Hello!"
        assert len(suite.decode.submits) == 3


async def without_a_worker(suite):
    await suite.workers["decode0"].stop()
    await wait_until(lambda: suite.gateway.pool.missing_roles())


async def full(suite):
    suite.decode.refuse = decode_pb2.RequestError(
        code=8, reason="OVERLOADED", message="full", retry_after_ms=7000
    )


async def shutting_down(suite):
    """One request is still being answered, so both doors are open."""
    suite.decode.admit.clear()
    going_on = asyncio.create_task(suite.http.post("/v1/chat/completions", json=chat_body()))
    await wait_until(lambda: suite.decode.submits)
    stopping = asyncio.create_task(suite.gateway.stop())
    await let_tasks_run()
    return going_on, stopping


def delay_of(failed):
    """The seconds that a status asks to wait for; None: it has no RetryInfo."""
    trailing, found = dict(failed.trailing_metadata()), error_details_pb2.RetryInfo()
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    delays = [found.retry_delay.ToSeconds() for detail in status.details if detail.Unpack(found)]
    return delays[0] if delays else None


@pytest.mark.parametrize(
    ("state", "code", "delay"),
    [
        (without_a_worker, grpc.StatusCode.UNAVAILABLE, 5),
        (shutting_down, grpc.StatusCode.UNAVAILABLE, 5),
        (full, grpc.StatusCode.RESOURCE_EXHAUSTED, 7),
    ],
)
@pytest.mark.parametrize("method", ["Complete", "Stream"])
async def test_a_status_has_the_delay_that_rest_has(method, state, code, delay):
    async with open_suite(worker_wait_seconds=0.0) as suite:
        tasks = await state(suite)
        chat = chat_pb2_grpc.ChatServiceStub(suite.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (chat.Complete(REQUEST) if method == "Complete" else anext(aiter(chat.Stream(REQUEST))))
        assert (caught.value.code(), delay_of(caught.value)) == (code, delay)
        answer = await suite.http.post("/v1/chat/completions", json=chat_body())
        assert answer.headers["retry-after"] == str(delay)
        suite.decode.admit.set()
        await asyncio.gather(*(tasks or ()))


async def test_where_rest_names_no_delay_grpc_has_none(suite):
    """A guard."""
    chat, wrong = chat_pb2_grpc.ChatServiceStub(suite.channel), chat_pb2.ChatRequest(model="nobody")
    wrong.MergeFrom(REQUEST)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat.Complete(wrong)
    assert (caught.value.code(), delay_of(caught.value)) == (grpc.StatusCode.NOT_FOUND, None)
    answer = await suite.http.post("/v1/chat/completions", json=chat_body(model="nobody"))
    assert (answer.status_code, "retry-after" in answer.headers) == (404, False)
