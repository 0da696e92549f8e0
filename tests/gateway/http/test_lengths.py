"""max_tokens, and prompts that do not fit."""

from __future__ import annotations

import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, sampling_pb2
from tests.gateway.suite import CONTEXT_LENGTH, chat_body, open_suite

CODE = "context_length_exceeded"


async def budget_of(suite, **body):
    """The max_tokens that the worker got, and the length of the prompt."""
    answer = await suite.chat(**body)
    assert answer.status_code == 200, answer.text
    submit = suite.decode.submits[-1]
    return submit.sampling.max_tokens, len(submit.prompt_token_ids)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    "asked", [CONTEXT_LENGTH - 1, CONTEXT_LENGTH, 1_000_000, 2**31 - 1, 2**53 - 1, 2**80, 1e30]
)
async def test_max_tokens_beyond_the_context_is_what_the_context_leaves(suite, field, asked):
    budget, length = await budget_of(suite, **{field: asked})
    assert budget == CONTEXT_LENGTH - length


async def test_max_tokens_that_fits_is_taken_as_it_is(suite):
    """A guard for 16."""
    for asked in (16, 16.0, 1.6e1):
        assert (await budget_of(suite, max_tokens=asked))[0] == 16


async def test_min_tokens_beyond_the_context_is_clamped_too(suite):
    budget, _ = await budget_of(suite, max_tokens=100_000, min_tokens=90_000)
    assert suite.decode.submits[-1].sampling.min_tokens == budget


async def test_other_routes_clamp_alike(suite):
    for path, body in (
        ("/v1/completions", {"prompt": "x", "max_tokens": 1_000_000}),
        ("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 1_000_000}}),
    ):
        assert (await suite.http.post(path, json=body)).status_code == 200
        submit = suite.decode.submits[-1]
        assert submit.sampling.max_tokens == CONTEXT_LENGTH - len(submit.prompt_token_ids)
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])],
        sampling=sampling_pb2.SamplingParams(max_tokens=1_000_000),
    )
    assert (await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(request)).choices


async def test_moonshot_refuses_max_tokens_beyond_the_context():
    async with open_suite(profile="moonshot") as suite:
        for field in ("max_tokens", "max_completion_tokens"):
            answer = await suite.chat(**{field: 1_000_000})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"], error["code"]) == (400, field, None)
        assert (await budget_of(suite, max_tokens=16))[0] == 16
        answer = await suite.http.post("/v1/completions", json={"prompt": "x", "max_tokens": 1_000_000})
        assert answer.status_code == 200


LONG = "x" * (5 << 20)


CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
LONG_TOOL = {"type": "function", "function": {"name": "f", "description": LONG}}
TOO_LONG = {
    "content": (CHAT, chat_body(messages=[{"role": "user", "content": LONG}]), "messages"),
    "reasoning": (CHAT, chat_body(messages=[{"role": "assistant", "reasoning_content": LONG}]), "messages"),
    "tools": (CHAT, chat_body(tools=[LONG_TOOL]), "tools"),
    "prompt": (COMPLETIONS, {"prompt": LONG}, "prompt"),
    "text": ("/generate", {"text": LONG}, "text"),
    "token ids (a guard)": (COMPLETIONS, {"prompt": [7] * (CONTEXT_LENGTH + 1)}, "prompt"),
    "words (a guard)": (COMPLETIONS, {"prompt": " word" * CONTEXT_LENGTH}, "prompt"),
}


@pytest.mark.parametrize(("path", "body", "param"), list(TOO_LONG.values()), ids=list(TOO_LONG))
async def test_a_prompt_that_does_not_fit_has_one_code_whichever_check_finds_it(suite, path, body, param):
    answer = await suite.http.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, CODE)
    assert not suite.decode.submits
