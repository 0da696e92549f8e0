"""Tool calls and reasoning over REST, read by the official client."""

from __future__ import annotations

from types import SimpleNamespace

import openai
import pytest

from tests.gateway.suite import joined, open_suite
from tests.gateway.tools import PARIS, ROME, TOOLS, TWO_CALLS, call, checked_tool, section

QUESTION = {"role": "user", "content": "Hi"}
MADE = [("functions.get_weather:0", "get_weather", PARIS), ("functions.a.b-c:1", "a.b-c", ROME)]


@pytest.fixture
async def client(suite):
    base = f"http://127.0.0.1:{suite.gateway.http_port}/v1"
    async with openai.AsyncOpenAI(api_key="any", base_url=base, max_retries=0) as opened:
        yield opened


async def ask(client, *, stream, messages=(QUESTION,), tools=TOOLS, **fields):
    """The choices as a client has them in the end, streamed or not."""
    tools = {} if tools is None else {"tools": tools}
    answer = await client.chat.completions.create(
        model="kimi", messages=list(messages), stream=stream, **tools, **fields
    )
    if not stream:
        return [_of_whole(choice) for choice in answer.choices]
    choices = [
        SimpleNamespace(reasoning="", content="", calls=[], finish=None) for _ in range(fields.get("n", 1))
    ]
    async for chunk in answer:
        for choice in chunk.choices:
            _append(choices[choice.index], choice)
    return choices


def _of_whole(choice):
    message = choice.message
    calls = [(made.id, made.function.name, made.function.arguments) for made in message.tool_calls or ()]
    assert all(made.type == "function" for made in message.tool_calls or ())
    assert message.content is not None or calls
    return SimpleNamespace(
        reasoning=message.reasoning_content or "",
        content=message.content or "",
        calls=calls,
        finish=choice.finish_reason,
    )


def _append(so_far, choice):
    """As verifiers of tool calls read a stream: arguments are appended, the name is sent once."""
    delta = choice.delta
    assert so_far.finish is None
    so_far.reasoning += getattr(delta, "reasoning_content", None) or ""
    so_far.content += delta.content or ""
    for made in delta.tool_calls or ():
        if made.index == len(so_far.calls):
            assert made.type == "function"
            so_far.calls.append((made.id, made.function.name, made.function.arguments))
            continue
        assert made.function.name is None
        call_id, name, arguments = so_far.calls[made.index]
        so_far.calls[made.index] = call_id, name, arguments + made.function.arguments
    so_far.finish = choice.finish_reason


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tokens_per_delta", [1, 7, 1000])
async def test_calls_come_with_reasoning_and_content_and_end_with_tool_calls(
    suite, client, stream, tokens_per_delta
):
    suite.say(f"Hmm.</think>Let me look.{TWO_CALLS}")
    suite.decode.tokens_per_delta = tokens_per_delta
    [choice] = await ask(client, stream=stream)
    assert (choice.reasoning, choice.content) == ("Hmm.", "Let me look.")
    assert choice.calls == MADE
    assert choice.finish == "tool_calls"


async def test_beside_calls_an_empty_content_is_null(suite, client):
    suite.say(f"Hmm.</think>{TWO_CALLS}")
    message = (await suite.chat(tools=TOOLS)).json()["choices"][0]["message"]
    assert message["content"] is None
    suite.say("Hmm.</think>")
    message = (await suite.chat(tools=TOOLS)).json()["choices"][0]["message"]
    assert message["content"] == ""
    assert "tool_calls" not in message


@pytest.mark.parametrize("stream", [False, True])
async def test_each_choice_has_its_own_calls(suite, client, stream):
    texts = [TWO_CALLS, "r</think>no call", f"r</think>c{section(call('a.b-c', 0, ROME))}"]
    scripts = [suite.tokenizer.encode(text, parse_special=True) for text in texts]
    stop = min(suite.tokenizer.stop_ids)
    suite.decode.script = lambda submit, choice: [*scripts[choice], stop]
    choices = await ask(client, stream=stream, n=3)
    assert [choice.calls for choice in choices] == [MADE, [], [("functions.a.b-c:0", "a.b-c", ROME)]]
    assert [choice.content for choice in choices] == ["", "no call", "c"]
    assert [choice.finish for choice in choices] == ["tool_calls", "stop", "tool_calls"]


async def test_cut_anywhere_by_max_tokens_a_held_call_is_whole_or_absent_streamed_or_not(suite, client):
    text = f"r</think>c{TWO_CALLS}"
    suite.say(text)
    ids = suite.tokenizer.encode(text, parse_special=True)
    ends = [index for index, token in enumerate(ids) if token == suite.tokenizer.special.tool_call_end]
    tools = [checked_tool("get_weather"), checked_tool("a.b-c")]
    for limit in range(1, len(ids) + 1):
        [whole] = await ask(client, stream=False, max_tokens=limit, tools=tools)
        [streamed] = await ask(client, stream=True, max_tokens=limit, tools=tools)
        assert whole == streamed
        assert whole.calls == MADE[: sum(limit > end for end in ends)]
        assert whole.finish == "length"
    assert (whole.reasoning, whole.content) == ("r", "c")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{"tools": None}, {"tool_choice": "none"}])
async def test_a_section_where_no_tool_may_be_called_gives_no_call_and_leaks_no_marker(
    suite, client, stream, fields
):
    suite.say(f"r</think>c{TWO_CALLS}")
    [choice] = await ask(client, stream=stream, **fields)
    assert (choice.reasoning, choice.content, choice.calls, choice.finish) == ("r", "c", [], "stop")


async def test_a_conversation_goes_on_with_the_ids_it_was_given(suite, client):
    suite.say(f"Hmm.</think>{TWO_CALLS}")
    answer = await client.chat.completions.create(model="kimi", messages=[QUESTION], tools=TOOLS)
    message = answer.choices[0].message
    results = [{"role": "tool", "tool_call_id": made.id, "content": "sunny"} for made in message.tool_calls]
    suite.say(f"More.</think>{section(call('get_weather', 2, '{}'))}")
    [choice] = await ask(client, stream=True, messages=[QUESTION, message.model_dump(), *results])
    assert choice.calls == [("functions.get_weather:2", "get_weather", "{}")]
    first, second = (list(submit.prompt_token_ids) for submit in suite.decode.submits)
    answered = suite.tokenizer.encode(f"Hmm.</think>{TWO_CALLS}<|im_end|>", parse_special=True)
    assert second[: len(first) + len(answered)] == first + answered


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_that_is_not_told_apart_is_content(suite, client, stream):
    suite.say(f"r</think>c{TWO_CALLS}")
    [choice] = await ask(client, stream=stream, extra_body={"separate_reasoning": False})
    assert (choice.reasoning, choice.content, choice.calls) == ("", "r</think>c", MADE)
    usage = (await suite.chat(tools=TOOLS, separate_reasoning=False)).json()["usage"]
    counted = len(suite.tokenizer.encode("r</think>", parse_special=True))
    assert usage["completion_tokens_details"]["reasoning_tokens"] == counted


async def test_reasoning_that_does_not_stream_comes_in_one_chunk(suite):
    suite.say("a longer thought</think>content")
    suite.decode.step_s = 0.01
    chunks = await suite.stream(stream_reasoning=False)
    news = [chunk["choices"][0]["delta"].get("reasoning_content") for chunk in chunks]
    assert [text for text in news if text] == ["a longer thought"]
    assert joined(chunks, "content") == "content"
    streamed = await suite.stream()
    assert sum("reasoning_content" in chunk["choices"][0]["delta"] for chunk in streamed) > 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("settings", "reasoning", "content", "calls"),
    [
        ({"reasoning_parser": "none"}, "", "r</think>c", MADE),
        ({"tool_call_parser": "none"}, "r", f"c{TWO_CALLS}", []),
        ({"reasoning_parser": "none", "tool_call_parser": "none"}, "", f"r</think>c{TWO_CALLS}", []),
    ],
)
async def test_what_a_gateway_does_not_parse_passes_through_with_its_markers(
    settings, reasoning, content, calls, stream
):
    async with open_suite(**settings) as suite:
        suite.say(f"r</think>c{TWO_CALLS}")
        base = f"http://127.0.0.1:{suite.gateway.http_port}/v1"
        async with openai.AsyncOpenAI(api_key="any", base_url=base, max_retries=0) as client:
            [choice] = await ask(client, stream=stream)
    assert (choice.reasoning, choice.content, choice.calls) == (reasoning, content, calls)
    assert choice.finish == ("tool_calls" if calls else "stop")


async def test_logprobs_stay_one_per_token_within_a_tool_section(suite):
    suite.say(f"r</think>c{TWO_CALLS}")
    suite.decode.tokens_per_delta = 3
    whole = (await suite.chat(tools=TOOLS, logprobs=True)).json()
    entries = whole["choices"][0]["logprobs"]["content"]
    assert len(entries) == whole["usage"]["completion_tokens"]
    chunks = await suite.stream(tools=TOOLS, logprobs=True)
    streamed = [
        entry for chunk in chunks for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == entries


async def test_a_worker_that_dies_within_a_call_loses_nothing_of_it():
    async with open_suite(decodes=2) as suite:
        suite.say(TWO_CALLS)
        for decode in suite.decodes:
            decode.fail_after, decode.deaths = 20, 1
        message = (await suite.chat(tools=TOOLS)).json()["choices"][0]["message"]
    assert [made["function"]["arguments"] for made in message["tool_calls"]] == [PARIS, ROME]
