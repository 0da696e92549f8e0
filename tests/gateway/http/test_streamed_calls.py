"""How the arguments of calls come over REST and gRPC, and what a call has that is not finished."""

from __future__ import annotations

import json
from contextlib import aclosing

import grpc
import openai
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, decode_pb2, sampling_pb2
from tests.gateway.suite import chat_body, open_suite
from tests.gateway.tools import PARIS, ROME, TOOLS, TWO_CALLS, call, checked_tool, joined_calls, section
from tests.support.responses import response_of

LONG = json.dumps({"path": "a.py", "content": "print('hello')\n" * 6})
ONE_CALL = section(call("get_weather", 0, LONG))
FOREVER_S = 3600.0
# Slow enough for the gateway to send each step's text before the next one comes.
STEP_S = 0.005


def pieces_of(chunks, index=0):
    """The pieces of calls in a choice's deltas; each delta has one."""
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ()) if choice["index"] == index]
    lists = [choice["delta"]["tool_calls"] for choice in choices if "tool_calls" in choice["delta"]]
    return [piece for [piece] in lists]


def finishes(chunks):
    return [
        choice["finish_reason"] for chunk in chunks for choice in chunk.get("choices", ())
        if choice["finish_reason"]
    ]  # fmt: skip


async def first_tokens_then_silence(suite, text):
    """The worker gives the tokens of `text` in one step, and then nothing more."""
    suite.say(text + "x" * 100)
    suite.decode.tokens_per_delta = len(suite.tokenizer.encode(text, parse_special=True))
    suite.decode.step_s = FOREVER_S


async def test_a_call_comes_as_its_name_then_pieces_of_its_arguments_then_the_finish(suite):
    suite.say(f"Hmm.</think>{ONE_CALL}")
    suite.decode.step_s = STEP_S
    chunks = await suite.stream(tools=TOOLS)
    pieces = pieces_of(chunks)
    assert pieces[0] == {
        "index": 0,
        "id": "functions.get_weather:0",
        "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    }
    assert len(pieces) > 5
    whole = (await suite.chat(tools=TOOLS)).json()["choices"][0]
    assert joined_calls(pieces) == whole["message"]["tool_calls"]
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == LONG
    [last] = chunks[-1]["choices"]
    assert (last["delta"], last["finish_reason"]) == ({}, "tool_calls")


async def test_arguments_are_sent_in_the_step_that_gives_their_tokens(suite):
    begun = '{"path": "a.py", "content": "half of a fi'
    written = f"functions.get_weather:0<|tool_call_argument_begin|>{begun}"
    await first_tokens_then_silence(suite, f"<|tool_calls_section_begin|><|tool_call_begin|>{written}")
    body = chat_body(tools=TOOLS, stream=True)
    got = []
    async with (
        suite.http.stream("POST", "/v1/chat/completions", json=body) as answer,
        aclosing(answer.aiter_lines()) as lines,
    ):
        async for line in lines:
            if line:
                got.append(json.loads(line.removeprefix("data: ")))
            if "".join(piece["function"]["arguments"] for piece in pieces_of(got)) == begun:
                break
    await suite.decode.cancelled.wait()
    assert not finishes(got)


async def test_calls_of_one_answer_come_one_after_another(suite):
    suite.say(f"r</think>{TWO_CALLS}")
    made = joined_calls(pieces_of(await suite.stream(tools=TOOLS)))
    assert [each["function"]["arguments"] for each in made] == [PARIS, ROME]
    assert [each["id"] for each in made] == ["functions.get_weather:0", "functions.a.b-c:1"]


async def test_each_of_three_choices_streams_its_own_calls(suite):
    texts = [TWO_CALLS, ONE_CALL, section(call("a.b-c", 0, ROME))]
    scripts = [suite.tokenizer.encode(text, parse_special=True) for text in texts]
    stop = min(suite.tokenizer.stop_ids)
    suite.decode.script = lambda submit, choice: [*scripts[choice], stop]
    chunks = await suite.stream(tools=TOOLS, n=3)
    whole = (await suite.chat(tools=TOOLS, n=3)).json()["choices"]
    for index, choice in enumerate(whole):
        assert joined_calls(pieces_of(chunks, index)) == choice["message"]["tool_calls"]
    assert finishes(chunks) == ["tool_calls"] * 3


async def test_a_call_whose_schema_no_grammar_enforces_comes_whole_and_is_counted_by_keyword(suite):
    suite.say(f"r</think>{TWO_CALLS}")
    suite.decode.step_s = STEP_S
    tools = [TOOLS[0], checked_tool("a.b-c")]
    pieces = pieces_of(await suite.stream(tools=tools))
    assert [piece["function"]["arguments"] for piece in pieces if piece["index"] == 1] == ["", ROME]
    assert [each["function"]["arguments"] for each in joined_calls(pieces)] == [PARIS, ROME]
    page = (await suite.http.get("/metrics")).text
    assert "perigee_streamed_tool_calls_total 1.0" in page
    assert 'perigee_held_tool_calls_total{reason="not"} 1.0' in page


async def test_nothing_of_an_invalid_call_is_shown(suite):
    suite.say("r</think>" + section(call("get_weather", 0, '{"city": null}')))
    chunks = await suite.stream(tools=[checked_tool("get_weather")])
    assert chunks[-1]["error"]["code"] == "invalid_tool_call"
    assert not pieces_of(chunks)
    assert not finishes(chunks)


@pytest.mark.parametrize("thinking", [True, False])
async def test_cut_anywhere_a_call_is_unfinished_and_the_finish_is_length_streamed_or_not(suite, thinking):
    text = f"{'r</think>' if thinking else ''}{ONE_CALL}"
    suite.say(text)
    ids = suite.tokenizer.encode(text, parse_special=True)
    end = ids.index(suite.tokenizer.special.tool_call_end)
    fields = {"tools": TOOLS, "chat_template_kwargs": {"thinking": thinking}}
    shown = 0
    for limit in range(2, len(ids) + 1, 2):
        [choice] = (await suite.chat(max_tokens=limit, **fields)).json()["choices"]
        chunks = await suite.stream(max_tokens=limit, **fields)
        calls = choice["message"].get("tool_calls", [])
        assert joined_calls(pieces_of(chunks)) == calls
        assert finishes(chunks) == [choice["finish_reason"]] == ["length"]
        for made in calls:
            shown += 1
            assert LONG.startswith(made["function"]["arguments"])
            assert is_json(made["function"]["arguments"]) == (limit >= end)
    assert shown > 10


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def test_a_stop_token_within_a_call_leaves_it_unfinished_and_is_no_finish_of_calls(suite):
    cut = suite.tokenizer.encode(ONE_CALL, parse_special=True)[:30]
    suite.decode.script = lambda submit, choice: cut
    fields = {"tools": TOOLS, "stop_token_ids": [cut[-1]], "chat_template_kwargs": {"thinking": False}}
    [choice] = (await suite.chat(**fields)).json()["choices"]
    [made] = choice["message"]["tool_calls"]
    assert not is_json(made["function"]["arguments"])
    assert choice["finish_reason"] == "stop"
    chunks = await suite.stream(**fields)
    assert joined_calls(pieces_of(chunks)) == [made]
    assert finishes(chunks) == ["stop"]


@pytest.mark.parametrize("chosen", ["auto", "required", {"type": "function", "function": {"name": "a.b-c"}}])
@pytest.mark.parametrize("closes", [False, True])
async def test_the_setting_decides_whether_the_worker_closes_a_call(chosen, closes):
    async with open_suite(close_cut_calls=closes) as suite:
        suite.say(f"r</think>{TWO_CALLS}")
        await suite.chat(tools=TOOLS, tool_choice=chosen)
        assert suite.decode.submits[-1].constraint.closes_calls is closes


async def test_a_lost_worker_ends_a_begun_call_with_an_error_event_and_no_finish():
    async with open_suite(max_failovers=0) as suite:
        suite.say(f"r</think>{ONE_CALL}")
        suite.decode.fail_after = 40
        chunks = await suite.stream(tools=TOOLS)
        assert chunks[-1]["error"]["code"] == "unavailable"
        [made] = joined_calls(pieces_of(chunks))
        assert not is_json(made["function"]["arguments"])
        assert not finishes(chunks)


async def test_the_deadline_ends_a_begun_call_with_an_error_event_and_no_finish():
    async with open_suite(request_timeout_seconds=0.5) as suite:
        begun = "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        await first_tokens_then_silence(suite, f'{begun}<|tool_call_argument_begin|>{{"path')
        chunks = await suite.stream(tools=TOOLS)
        assert chunks[-1]["error"]["code"] == "deadline_exceeded"
        [made] = joined_calls(pieces_of(chunks))
        assert made["function"]["arguments"] == '{"path'
        assert not finishes(chunks)


async def test_a_call_that_the_worker_cancels_ends_in_an_error_event_and_no_finish():
    async with open_suite(max_failovers=0) as suite:
        ids = suite.tokenizer.encode(f"r</think>{ONE_CALL}", parse_special=True)

        async def play(submit, outbox):
            for token_ids, finish in ((ids[:30], 0), ([], sampling_pb2.FINISH_REASON_CANCELLED)):
                delta = decode_pb2.SequenceDelta(
                    handle=submit.handle, token_ids=token_ids, finish_reason=finish
                )
                outbox.put_nowait(response_of([delta]))

        suite.decode._play = play
        chunks = await suite.stream(tools=TOOLS)
        assert "error" in chunks[-1]
        assert len(joined_calls(pieces_of(chunks))) == 1
        assert not finishes(chunks)


async def test_over_grpc_a_lost_worker_ends_a_begun_call_with_a_status_and_no_finish():
    async with open_suite(max_failovers=0) as suite:
        suite.say(f"r</think>{ONE_CALL}")
        suite.decode.fail_after = 40
        question = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
        request = chat_pb2.ChatRequest(messages=[question], tools_json=json.dumps(TOOLS))
        deltas = []

        async def read():
            async for chunk in chat_pb2_grpc.ChatServiceStub(suite.channel).Stream(request):
                deltas.extend(chunk.deltas)

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        pieces = [piece for delta in deltas for piece in delta.tool_calls]
        assert (pieces[0].id, pieces[0].name) == ("functions.get_weather:0", "get_weather")
        assert not any(piece.id or piece.name for piece in pieces[1:])
        assert LONG.startswith("".join(piece.arguments for piece in pieces))
        assert not any(delta.finish_reason for delta in deltas)


async def test_log_probabilities_come_with_the_piece_that_their_tokens_spell(suite):
    suite.say(ONE_CALL)
    chunks = await suite.stream(tools=TOOLS, logprobs=True, chat_template_kwargs={"thinking": False})
    spelt = ""
    for chunk in chunks:
        [choice] = chunk["choices"]
        for piece in choice["delta"].get("tool_calls", ()):
            tokens = [entry["token"] for entry in choice["logprobs"]["content"]]
            assert "id" in piece or "".join(tokens) == piece["function"]["arguments"]
            spelt += "".join(tokens)
    assert spelt == ONE_CALL.partition("<|tool_call_end|>")[0]


async def test_a_held_call_has_the_log_probabilities_of_all_its_tokens_with_its_arguments(suite):
    suite.say(section(call("get_weather", 0, PARIS)))
    tools = [checked_tool("get_weather")]
    chunks = await suite.stream(tools=tools, logprobs=True, chat_template_kwargs={"thinking": False})
    named, given = (chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["delta"].get("tool_calls"))
    assert named["logprobs"] is None
    written = "".join(entry["token"] for entry in given["logprobs"]["content"])
    assert written.endswith("<|tool_call_end|>")
    assert "get_weather" in written


@pytest.fixture
async def client(suite):
    base = f"http://127.0.0.1:{suite.gateway.http_port}/v1"
    async with openai.AsyncOpenAI(api_key="any", base_url=base, max_retries=0) as opened:
        yield opened


async def test_the_official_clients_helper_has_the_arguments_as_they_grow_and_whole(suite, client):
    suite.say(f"r</think>{ONE_CALL}")
    suite.decode.step_s = STEP_S
    asked = {"model": "kimi", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
    async with client.chat.completions.stream(**asked) as stream:
        events = [event async for event in stream]
        message = (await stream.get_final_completion()).choices[0].message
    grown = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert "".join(event.arguments_delta for event in grown) == LONG
    assert len(grown) >= 5
    assert [event.arguments for event in grown] == sorted((event.arguments for event in grown), key=len)
    assert [made.function.arguments for made in message.tool_calls] == [LONG]


async def test_the_official_clients_helper_takes_a_cut_call_for_an_error(suite, client):
    suite.say(f"r</think>{ONE_CALL}")
    strict = {"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}
    asked = {"model": "kimi", "messages": [{"role": "user", "content": "Hi"}], "tools": [strict]}

    async def read():
        async with client.chat.completions.stream(**asked, max_tokens=40) as stream:
            await stream.get_final_completion()

    with pytest.raises(openai.LengthFinishReasonError):
        await read()
