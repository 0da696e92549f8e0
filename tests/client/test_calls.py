"""Every method of both clients, against a gateway over fake workers."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest

from perigee.client import join_chat
from perigee.v1 import chat_pb2, generation_pb2, sampling_pb2
from tests.client.driver import driving
from tests.gateway.pictures import data_url, picture
from tests.gateway.suite import open_suite
from tests.gateway.tools import PARIS, ROME, TOOLS, TWO_CALLS


async def test_a_chat_is_answered_by_a_message(suite, client):
    suite.say("Hmm.</think>Hello!")
    answer = await client.call("chat.complete", "Hi", max_tokens=64, temperature=0.0, seed=7)
    assert isinstance(answer, chat_pb2.ChatResponse)
    assert (answer.choices[0].reasoning_content, answer.choices[0].content) == ("Hmm.", "Hello!")
    [submit] = suite.decode.submits
    assert (submit.sampling.max_tokens, submit.sampling.temperature, submit.sampling.seed) == (64, 0.0, 7)
    assert "Hi" in suite.tokenizer.decode(submit.prompt_token_ids)


@pytest.mark.parametrize("tokens_per_delta", [1, 4])
async def test_a_joined_stream_is_the_complete_answer(suite, client, tokens_per_delta):
    suite.say(f"Hmm, 日本.</think>Let me look.{TWO_CALLS}")
    suite.decode.tokens_per_delta = tokens_per_delta
    fields = {"tools": TOOLS, "n": 2, "logprobs": True, "seed": 1}
    whole = await client.call("chat.complete", "Hi", **fields)
    stream = await client.stream("chat.stream", "Hi", **fields)
    chunks = []
    while (chunk := await client.next(stream)) is not None:
        chunks.append(chunk)
    assert len(chunks) > 5
    assert stream.joined() == join_chat(chunks)
    joined = stream.joined()
    assert [(call.name, call.arguments) for call in joined.choices[1].tool_calls] == [
        ("get_weather", PARIS),
        ("a.b-c", ROME),
    ]
    assert joined.choices == whole.choices
    assert (joined.usage, joined.model) == (whole.usage, whole.model)
    assert joined.id.startswith("chatcmpl-")


async def test_the_rest_of_a_stream_is_joined_to_what_was_read(suite, client):
    suite.say("Hmm.</think>Hello there!")
    stream = await client.stream("chat.stream", "Hi")
    await client.next(stream)
    assert stream.joined().choices[0].finish_reason == sampling_pb2.FINISH_REASON_UNSPECIFIED
    answer = await client.read_all(stream)
    assert (answer.choices[0].reasoning_content, answer.choices[0].content) == ("Hmm.", "Hello there!")
    assert answer.choices[0].finish_reason == sampling_pb2.FINISH_REASON_STOP


async def test_pictures_are_sent_as_bytes_or_as_urls(suite, client):
    data = picture()
    parts = ["What is this?", data, {"type": "image", "data": data},
             {"type": "image_url", "image_url": {"url": data_url(data)}}]  # fmt: skip
    await client.call("chat.complete", [{"role": "user", "content": parts}])
    [submit] = suite.decode.submits
    assert len(submit.media) == 3
    assert len({media.content_hash for media in submit.media}) == 1


async def test_a_conversation_goes_on_with_the_models_own_call(suite, client):
    suite.say(f"r</think>{TWO_CALLS}")
    question = {"role": "user", "content": "Weather?"}
    [choice] = (await client.call("chat.complete", [question], tools=TOOLS)).choices
    result = {"role": "tool", "tool_call_id": choice.tool_calls[0].id, "content": "sunny"}
    suite.say("r</think>It is sunny.")
    answer = await client.call("chat.complete", [question, choice, result], tools=TOOLS)
    assert answer.choices[0].content == "It is sunny."
    prompt = suite.tokenizer.decode(suite.decode.submits[1].prompt_token_ids)
    assert PARIS in prompt
    assert "sunny" in prompt


async def test_an_answer_follows_a_response_format(suite, client):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    await client.call("chat.complete", "Hi", response_format=wanted)
    assert suite.decode.submits[0].constraint.grammar


async def test_a_ready_request_is_sent_as_it_is(suite, client):
    message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    await client.call("chat.complete", chat_pb2.ChatRequest(messages=[message], priority=7))
    assert suite.decode.submits[0].priority == 7


async def test_a_prompt_is_continued_whole_and_streamed(suite, client):
    suite.say("and so on")
    whole = await client.call("generation.generate", "Once", max_tokens=20)
    assert isinstance(whole, generation_pb2.GenerateResponse)
    assert whole.choices[0].text == "and so on"
    stream = await client.stream("generation.stream", list(suite.decode.submits[0].prompt_token_ids), n=2)
    joined = await client.read_all(stream)
    assert [choice.text for choice in joined.choices] == ["and so on"] * 2
    assert joined.choices[1].token_ids == whole.choices[0].token_ids
    assert joined.choices[1].finish_reason == sampling_pb2.FINISH_REASON_STOP
    assert joined.usage.completion_tokens == 2 * whole.usage.completion_tokens
    first, second = suite.decode.submits
    assert list(first.prompt_token_ids) == list(second.prompt_token_ids)


async def test_a_text_becomes_tokens_and_text_again(suite, client):
    ids = await client.call("generation.tokenize", "Grüße, 日本")
    assert ids == list(suite.tokenizer.encode("Grüße, 日本", parse_special=False))
    assert await client.call("generation.detokenize", ids) == "Grüße, 日本"


async def test_the_models_are_listed_and_found_by_name(client):
    assert [model.name for model in await client.call("models.list")] == ["kimi", "kimi-alias"]
    assert (await client.call("models.get", "kimi-alias")).vocab_size > 0
    assert (await client.call("models.get")).name == "kimi"


async def test_every_call_carries_the_clients_metadata(kind):
    async with (
        open_suite() as suite,
        driving(kind, suite.gateway.grpc_port, metadata={"x-request-id": "mine"}) as client,
    ):
        for given, expected in (("", "mine"), ("other", "other")):
            with pytest.raises(Exception, match="nobody") as raised:
                await client.call("chat.complete", "Hi", model="nobody", request_id=given)
            assert raised.value.request_id == expected


@pytest.mark.parametrize("name", ["a b", "a\nb", "é", "x" * 129])
async def test_a_name_that_no_gateway_takes_is_refused_before_the_call(suite, client, name):
    with pytest.raises(ValueError, match="request_id is "):
        await client.call("chat.complete", "Hi", request_id=name)
    with pytest.raises(ValueError, match="request_id is "):
        await client.stream("chat.stream", "Hi", request_id=name)
    assert not suite.decode.submits


async def test_the_program_of_the_page_about_the_api_runs(suite, repository, tmp_path):
    page = (repository / "docs" / "api.md").read_text()
    [program] = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Overloaded" in code]
    (tmp_path / "picture.png").write_bytes(picture())
    program = program.replace("127.0.0.1:50050", f"127.0.0.1:{suite.gateway.grpc_port}")
    suite.say("r</think>Yes.")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    completed = len(suite.tokenizer.encode("r</think>Yes.", parse_special=True)) + 1
    assert printed.decode() == f"Yes.{completed}\n"
