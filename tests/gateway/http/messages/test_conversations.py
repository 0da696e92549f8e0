"""What the model sees of a body of /v1/messages."""

from __future__ import annotations

import base64

import pytest

from tests.gateway.http.messages.talk import WRITE_FILE, post
from tests.gateway.pictures import data_url, picture
from tests.gateway.suite import chat_body, open_suite

BILLING = "x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch=fa690;"
ASK = {"role": "user", "content": "Hi"}
CALLED = {"type": "tool_use", "id": "t1", "name": "write_file", "input": {"path": "a", "content": "b"}}
IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(picture()).decode()},
}
URL_IMAGE = {"type": "image", "source": {"type": "url", "url": data_url(picture())}}
CACHE = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


async def seen(suite, **fields):
    """The text of the prompt that a worker was sent, an image being one pad."""
    answer = await post(suite, **fields)
    assert answer.status_code == 200, answer.text
    ids = list(suite.decode.submits[-1].prompt_token_ids)
    pad = suite.tokenizer.special.media_pad
    once = [each for before, each in zip([None, *ids], ids, strict=False) if not before == each == pad]
    return suite.tokenizer.decode(once, skip_flagged=False)


def turn(role, text):
    return f"<|im_{role}|>{role}<|im_middle|>{text}<|im_end|>"


async def test_a_conversation_is_seen_as_the_same_chat_is(suite):
    fields = {"system": "Be kind.", "messages": [ASK, {"role": "assistant", "content": "Hello"}, ASK]}
    text = await seen(suite, **fields)
    chat = [{"role": "system", "content": "Be kind."}, *fields["messages"]]
    await suite.http.post(
        "/v1/chat/completions", json=chat_body(messages=chat, thinking={"type": "disabled"})
    )
    assert list(suite.decode.submits[1].prompt_token_ids) == list(suite.decode.submits[0].prompt_token_ids)
    assert turn("system", "Be kind.") in text


async def test_blocks_of_the_system_prompt_are_lines_and_the_billing_header_is_none(suite):
    blocks = [{"type": "text", "text": text} for text in (BILLING, "One.", "Two.")]
    assert turn("system", "One.\nTwo.") in await seen(suite, system=blocks)
    for text in (f"{BILLING}\nOne.", f"{BILLING}One."):
        assert turn("system", "One.") in await seen(suite, system=text)
    assert "<|im_system|>" not in await seen(suite, system=BILLING)
    assert turn("system", "x-anthropic is a name") in await seen(suite, system="x-anthropic is a name")


async def test_requests_that_differ_in_the_checksum_alone_have_the_same_prompt(suite):
    prompts = []
    for checksum in ("fa690", "0aaa9"):
        system = [{"type": "text", "text": BILLING.replace("fa690", checksum)}, {"type": "text", "text": "S"}]
        await seen(suite, system=system)
        prompts.append(list(suite.decode.submits[-1].prompt_token_ids))
    assert prompts[0] == prompts[1]


async def test_results_images_and_text_of_one_turn_are_seen_in_order(suite):
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "done", **CACHE},
        {"type": "tool_result", "tool_use_id": "t2", "is_error": True,
         "content": [{"type": "text", "text": "no such file"}, IMAGE]},
        {"type": "tool_result", "tool_use_id": "t3"},
        {"type": "text", "text": "Go on.", **CACHE},
        URL_IMAGE,
    ]  # fmt: skip
    calls = [CALLED | {"id": f"t{number}"} for number in (1, 2, 3)]
    messages = [ASK, {"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    text = await seen(suite, messages=messages, tools=[WRITE_FILE])
    places = [
        text.index(each) for each in ("done", "The tool failed:\nno such file", "write_file:2", "Go on.")
    ]
    assert text.count("<|media_pad|>") == 2
    assert places[0] < places[1] < places[3]
    assert "functions.write_file:1" in text


async def test_reasoning_that_is_sent_back_is_seen_again_in_an_open_round(suite):
    thought = {"type": "thinking", "thinking": "I must write.", "signature": "whatever"}
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    messages = [
        ASK,
        {"role": "assistant", "content": [thought, redacted, CALLED]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]},
    ]
    text = await seen(suite, messages=messages, tools=[WRITE_FILE], thinking={"type": "adaptive"})
    assert "<think>I must write.</think>" in text
    assert text.endswith("<think>")


async def test_an_answer_that_is_begun_is_continued(suite):
    suite.say(" 42.")
    messages = [ASK, {"role": "assistant", "content": "The answer is"}]
    assert (await seen(suite, messages=messages)).endswith("The answer is")


async def test_tools_are_declared_with_their_schema_unless_none_may_be_called(suite):
    assert "Writes a file." in await seen(suite, tools=[WRITE_FILE | CACHE])
    assert "Writes a file." not in await seen(suite, tools=[WRITE_FILE], tool_choice={"type": "none"})
    assert "Writes a file." in await seen(suite, tools=[{**WRITE_FILE, "type": "custom"}])


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "any"},
        {"type": "tool", "name": "write_file"},
        {"type": "auto", "disable_parallel_tool_use": True},
    ],
)
async def test_a_choice_of_tools_constrains_the_answer(suite, choice):
    await seen(suite, tools=[WRITE_FILE])
    await seen(suite, tools=[WRITE_FILE], tool_choice=choice)
    free, chosen = suite.decode.submits
    assert chosen.constraint != free.constraint
    assert chosen.HasField("constraint")


async def test_the_billing_header_stays_where_it_is_wanted():
    async with open_suite(billing_header="keep") as suite:
        assert turn("system", BILLING) in await seen(suite, system=BILLING)
