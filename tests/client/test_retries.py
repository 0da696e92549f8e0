"""Which calls are repeated, how often, and after what delay."""

from __future__ import annotations

import itertools

import pytest

from perigee.client import Overloaded, RetryPolicy, Unavailable
from perigee.v1 import decode_pb2
from services.common import errors
from tests.client.driver import ScriptedChat, driving, serving

QUICK = RetryPolicy(max_attempts=4, initial_backoff_s=0.01, max_backoff_s=0.02)


async def text_of(client, method):
    if method == "complete":
        answer = await client.call("chat.complete", "Hi")
    else:
        answer = await client.read_all(await client.stream("chat.stream", "Hi"))
    return answer.choices[0].content


@pytest.mark.parametrize("method", ["complete", "stream"])
async def test_a_gateway_without_a_worker_is_asked_again_until_there_is_one(kind, suite, method):
    code, reason = (14, "UNAVAILABLE")
    suite.decode.refuse = decode_pb2.RequestError(code=code, reason=reason, message="not now")
    suite.decode.refusals = 2
    async with driving(kind, suite.gateway.grpc_port, retry=QUICK) as client:
        assert await text_of(client, method) == "Hello!"
    assert len(suite.decode.submits) == 3


@pytest.mark.parametrize("method", ["complete", "stream"])
async def test_a_call_is_made_as_often_as_the_policy_says(kind, method):
    chat = ScriptedChat(*[errors.Unavailable("no decode worker")] * 9)
    async with serving(chat) as port, driving(kind, port, retry=QUICK) as client:
        with pytest.raises(Unavailable, match="no decode worker"):
            await text_of(client, method)
    assert len(chat.attempts) == 4


async def test_the_servers_delay_comes_before_the_policys(kind):
    chat = ScriptedChat(errors.Overloaded("full", 0.3), errors.Overloaded("full", 0.2))
    async with serving(chat) as port, driving(kind, port, retry=QUICK) as client:
        assert await text_of(client, "complete") == "done"
    delays = [after - before for before, after in itertools.pairwise(chat.attempts)]
    assert len(delays) == 2
    assert delays[0] >= 0.3
    assert delays[1] >= 0.2


async def test_a_stream_that_has_begun_is_not_repeated(kind):
    chat = ScriptedChat(errors.Unavailable("decode died"), first=1)
    async with serving(chat) as port, driving(kind, port, retry=QUICK) as client:
        stream = await client.stream("chat.stream", "Hi")
        assert (await client.next(stream)).deltas[0].content == "begun "
        with pytest.raises(Unavailable, match="decode died"):
            await client.next(stream)
        assert stream.joined().choices[0].content == "begun "
    assert len(chat.attempts) == 1


@pytest.mark.parametrize("error", [errors.InvalidRequest("no", "messages"), errors.InternalError("bug")])
async def test_other_failures_are_not_repeated(kind, error):
    chat = ScriptedChat(error)
    async with serving(chat) as port, driving(kind, port, retry=QUICK) as client:
        with pytest.raises(Exception, match=error.message):
            await text_of(client, "complete")
    assert len(chat.attempts) == 1


async def test_without_a_policy_there_is_one_attempt(kind):
    chat = ScriptedChat(errors.Overloaded("full", 2.5))
    async with serving(chat) as port, driving(kind, port, retry=None) as client:
        with pytest.raises(Overloaded) as raised:
            await text_of(client, "complete")
    assert raised.value.retry_after_s == 2.5
    assert len(chat.attempts) == 1


async def test_the_deadline_spans_all_attempts(kind):
    chat = ScriptedChat(*[errors.Overloaded("full", 60.0)] * 9)
    async with serving(chat) as port, driving(kind, port, timeout_s=0.5) as client:
        with pytest.raises(Exception, match=r"(?i)deadline"):
            await text_of(client, "complete")
    assert len(chat.attempts) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_attempts": 1}, "2 to 5"),
        ({"max_attempts": 6}, "2 to 5"),
        ({"multiplier": 0}, "not 0.001 to 86400"),
        ({"initial_backoff_s": 0.0001}, "not 0.001 to 86400"),
        ({"max_backoff_s": float("inf")}, "not 0.001 to 86400"),
        ({"max_backoff_s": float("nan")}, "not 0.001 to 86400"),
    ],
)
def test_a_policy_that_grpc_would_not_follow_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RetryPolicy(**fields)
