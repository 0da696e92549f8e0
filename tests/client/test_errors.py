"""Every failure of docs/api.md's table arrives as an exception of its own."""

from __future__ import annotations

import grpc
import pytest

from perigee import client as perigee_client
from perigee.client import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    TooLarge,
    Unavailable,
    UnsupportedValue,
)
from perigee.v1 import decode_pb2
from services.common import errors
from tests.client.driver import ScriptedChat, driving, serving
from tests.gateway.suite import open_suite

# Classes of the services that a client need not tell from a more general one.
MERGED = {
    errors.PagesExhausted: "Overloaded",
    errors.WorkerLost: "Unavailable",
    errors.AlreadyPaired: "Unavailable",
    errors.TransferFailed: "Unavailable",
    errors.MediaLost: "Unavailable",
    errors.ConfigError: "PreconditionFailed",
    errors.CheckpointError: "PreconditionFailed",
}


def all_classes(base=errors.PerigeeError):
    """Those of the common tree: the doors have classes of their own below it."""
    below = [cls for cls in base.__subclasses__() if cls.__module__ == errors.__name__]
    return [found for cls in below for found in (cls, *all_classes(cls))]


@pytest.mark.parametrize("sent", all_classes(), ids=lambda sent: sent.__name__)
async def test_each_error_of_the_services_has_its_exception(kind, sent):
    error = sent("it broke")
    if isinstance(error, errors.InvalidRequest | errors.NotFound):
        error.param = "messages[0].role"
    if isinstance(error, errors.Overloaded):
        error.retry_after_s = 2.5
    async with serving(ScriptedChat(error)) as port, driving(kind, port, retry=None) as client:
        with pytest.raises(perigee_client.PerigeeError) as raised:
            await client.call("chat.complete", "Hi")
    received = raised.value
    assert type(received) is getattr(perigee_client, MERGED.get(sent, sent.__name__))
    assert (received.message, received.reason) == ("it broke", sent.reason)
    assert getattr(received, "param", None) == getattr(error, "param", None)
    assert getattr(received, "retry_after_s", None) == getattr(error, "retry_after_s", None)


WRONG = [
    ({"temperature": 3.0}, InvalidRequest, "sampling.temperature"),
    ({"messages": [{"role": "x", "content": "y"}]}, InvalidRequest, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [b"no image"]}]}, InvalidRequest,
     "messages[0].content[0].image.data"),
    ({"tools": [{"name": "f", "parameters": {"type": "string"}}]}, InvalidRequest,
     "tools[0].parameters_json.type"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://example.org/a"}]}]},
     UnsupportedValue, "messages[0].content[0].image.url"),
    ({"messages": "x " * 20_000}, ContextLengthExceeded, "messages"),
    ({"model": "nobody"}, ModelNotFound, "model"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected", "param"), WRONG)
async def test_a_wrong_request_names_its_field(client, fields, expected, param):
    fields = dict(fields)
    messages = fields.pop("messages", "Hi")
    stream = await client.stream("chat.stream", messages, request_id="mine", **fields)
    for answer in (
        client.call("chat.complete", messages, request_id="mine", **fields),
        client.read_all(stream),
    ):
        with pytest.raises(expected) as raised:
            await answer
        assert type(raised.value) is expected
        assert raised.value.param == param
        assert raised.value.request_id == "mine"


async def test_a_worker_without_room_and_a_dead_one_are_told_apart(suite, kind):
    async with driving(kind, suite.gateway.grpc_port, retry=None) as client:
        for code, reason, expected in ((8, "OVERLOADED", Overloaded), (14, "UNAVAILABLE", Unavailable)):
            suite.decode.refuse = decode_pb2.RequestError(code=code, reason=reason, message="not now")
            with pytest.raises(expected, match="not now") as raised:
                await client.call("chat.complete", "Hi")
            assert raised.value.reason == reason


async def test_a_message_that_is_too_large_is_no_overload(kind):
    async with (
        open_suite(max_body_bytes=20_000) as suite,
        driving(kind, suite.gateway.grpc_port, retry=None) as client,
    ):
        with pytest.raises(TooLarge):
            await client.call("chat.complete", "x" * 200_000)


async def test_a_gateway_that_is_not_there_is_unavailable(kind):
    async with serving(ScriptedChat()) as port:
        pass
    async with driving(kind, port, retry=None) as client:
        with pytest.raises(Unavailable) as raised:
            await client.call("chat.complete", "Hi")
    assert (raised.value.code, raised.value.reason) == (grpc.StatusCode.UNAVAILABLE, "")
