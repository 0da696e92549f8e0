"""Tokens on the metrics page, whatever the door and the end."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from perigee.v1 import chat_pb2, chat_pb2_grpc
from tests.gateway.suite import wait_until

FAMILIES = ("perigee_prompt_tokens", "perigee_cached_prompt_tokens", "perigee_generated_tokens")


async def counted(suite) -> list[float]:
    page = (await suite.http.get("/metrics")).text
    found = {family.name: family.samples for family in text_string_to_metric_families(page)}
    return [
        sum(sample.value for sample in found[name] if sample.name.endswith("_total")) for name in FAMILIES
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_over_rest_they_are_those_of_the_usage(suite, stream):
    suite.say("one two three")
    if stream:
        usage = (await suite.stream(n=2, stream_options={"include_usage": True}))[-1]["usage"]
    else:
        usage = (await suite.chat(n=2)).json()["usage"]
    assert await counted(suite) == [
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens"],
    ]


async def test_over_grpc_they_are_those_of_the_usage(suite):
    suite.say("one two three")
    chat = chat_pb2_grpc.ChatServiceStub(suite.channel)
    message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    usage = (await chat.Complete(chat_pb2.ChatRequest(messages=[message]))).usage
    assert await counted(suite) == [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens]


async def test_of_an_answer_that_nobody_waits_for_they_are_those_that_came(suite):
    suite.say("word " * 2000)
    suite.decode.step_s = 0.01
    request = asyncio.create_task(suite.chat(stream=True))
    await wait_until(lambda: suite.decode.sent > 3)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await wait_until(lambda: suite.gateway.pool.decode.workers[0].session.active == 0)
    prompt, _, generated = await counted(suite)
    assert prompt == len(suite.decode.submits[0].prompt_token_ids)
    assert 0 < generated < 2000


async def test_a_refused_request_has_none(suite):
    await suite.chat(messages=[])
    assert await counted(suite) == [0, 0, 0]
