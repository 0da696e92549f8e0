"""What lets a gRPC client retry by its own service config."""

from __future__ import annotations

import contextlib
import json

import grpc
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, decode_pb2
from tests.gateway.suite import open_suite

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
