"""Tool calls and reasoning over gRPC."""

from __future__ import annotations

import json

import grpc
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, sampling_pb2
from services.common.errors import InvalidRequest
from services.common.rpc.status import from_rpc_error
from tests.gateway.tools import PARIS, ROME, TOOLS, TWO_CALLS, call, section

MADE = [("functions.get_weather:0", "get_weather", PARIS), ("functions.a.b-c:1", "a.b-c", ROME)]


@pytest.fixture
def chat(suite):
    return chat_pb2_grpc.ChatServiceStub(suite.channel)


def request(**fields):
    question = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    sampling = sampling_pb2.SamplingParams(
        **{key: fields.pop(key) for key in ("n", "max_tokens") if key in fields}
    )
    return chat_pb2.ChatRequest(
        messages=[question], tools_json=json.dumps(TOOLS), sampling=sampling, **fields
    )


async def streamed(chat, asked):
    """The choices, every delta appended."""
    choices = {}
    async for chunk in chat.Stream(asked):
        for delta in chunk.deltas:
            choice = choices.setdefault(delta.index, chat_pb2.ChatChoice(index=delta.index))
            choice.reasoning_content += delta.reasoning_content
            choice.content += delta.content
            choice.finish_reason = delta.finish_reason
            for made in delta.tool_calls:
                if made.name:
                    assert (made.index, made.arguments) == (len(choice.tool_calls), "")
                    choice.tool_calls.add(id=made.id, name=made.name)
                    continue
                assert (made.index, made.id) == (len(choice.tool_calls) - 1, "")
                choice.tool_calls[-1].arguments += made.arguments
    return [choices[index] for index in sorted(choices)]


def calls(choice):
    return [(made.id, made.name, made.arguments) for made in choice.tool_calls]


async def test_a_stream_and_a_whole_answer_have_the_same_calls(suite, chat):
    suite.say(f"Hmm.</think>Let me look.{TWO_CALLS}")
    answer = await chat.Complete(request())
    [choice] = answer.choices
    assert (choice.reasoning_content, choice.content, calls(choice)) == ("Hmm.", "Let me look.", MADE)
    assert choice.finish_reason == sampling_pb2.FINISH_REASON_TOOL_CALLS
    assert await streamed(chat, request()) == [choice]


async def test_each_choice_has_its_own_calls(suite, chat):
    texts = [TWO_CALLS, "r</think>no call", section(call("a.b-c", 0, ROME))]
    scripts = [suite.tokenizer.encode(text, parse_special=True) for text in texts]
    stop = min(suite.tokenizer.stop_ids)
    suite.decode.script = lambda submit, choice: [*scripts[choice], stop]
    answer = await chat.Complete(request(n=3))
    assert [calls(choice) for choice in answer.choices] == [MADE, [], [("functions.a.b-c:0", "a.b-c", ROME)]]
    assert [choice.finish_reason for choice in answer.choices] == [
        sampling_pb2.FINISH_REASON_TOOL_CALLS,
        sampling_pb2.FINISH_REASON_STOP,
        sampling_pb2.FINISH_REASON_TOOL_CALLS,
    ]
    assert await streamed(chat, request(n=3)) == list(answer.choices)


async def test_cut_anywhere_by_max_tokens_the_last_call_is_unfinished_streamed_or_not(suite, chat):
    suite.say(f"r</think>{TWO_CALLS}")
    ids = suite.tokenizer.encode(f"r</think>{TWO_CALLS}", parse_special=True)
    begins = [i for i, token in enumerate(ids) if token == suite.tokenizer.special.tool_call_argument_begin]
    for limit in range(1, len(ids) + 1, 3):
        answer = await chat.Complete(request(max_tokens=limit))
        made = calls(answer.choices[0])
        assert len(made) == sum(limit > begin for begin in begins)
        assert made[:-1] == MADE[: len(made)][:-1]
        assert all(MADE[len(made) - 1][2].startswith(made[-1][2]) for _ in made[:1])
        assert answer.choices[0].finish_reason == sampling_pb2.FINISH_REASON_LENGTH
        assert await streamed(chat, request(max_tokens=limit)) == list(answer.choices)


async def test_reasoning_can_be_left_in_the_content(suite, chat):
    suite.say("r</think>c")
    asked = request(separate_reasoning=False)
    [choice] = (await chat.Complete(asked)).choices
    assert (choice.reasoning_content, choice.content) == ("", "r</think>c")
    assert await streamed(chat, asked) == [choice]


async def test_reasoning_can_come_in_one_piece(suite, chat):
    suite.say("a longer thought</think>content")
    suite.decode.step_s = 0.01
    for stream, least, most in ((False, 1, 1), (True, 2, 99)):
        deltas = [
            delta
            async for chunk in chat.Stream(request(stream_reasoning=stream))
            for delta in chunk.deltas
            if delta.reasoning_content
        ]
        assert least <= len(deltas) <= most
        assert "".join(delta.reasoning_content for delta in deltas) == "a longer thought"


@pytest.mark.parametrize("tokens_per_delta", [1, 5, 1000])
async def test_each_delta_of_a_stream_has_one_kind_of_news(suite, chat, tokens_per_delta):
    suite.say(f"Hmm.</think>Let me look.{TWO_CALLS}")
    suite.decode.tokens_per_delta = tokens_per_delta
    deltas = [delta async for chunk in chat.Stream(request(n=2)) for delta in chunk.deltas]
    for index in range(2):
        own = [
            {field.name for field, _ in delta.ListFields()} - {"index"}
            for delta in deltas
            if delta.index == index
        ]
        assert all(len(kinds) == 1 for kinds in own), own
        order = [next(iter(kinds)) for kinds in own]
        assert order == sorted(
            order, key=["reasoning_content", "content", "tool_calls", "finish_reason"].index
        )
        assert order.count("tool_calls") == (4 if tokens_per_delta == 1000 else order.count("tool_calls")) > 3
        assert order.count("finish_reason") == 1


CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "Its name"}}}
UNENFORCEABLE = {"type": "object", "properties": {"any": {"not": {}}}}
DECLARED = [
    {"name": "get_weather", "description": "The weather now", "parameters": CITY, "strict": True},
    {"name": "a.b-c"},
    {"name": "odd", "parameters": UNENFORCEABLE},
]


def as_message(function):
    function = dict(function)
    parameters = function.pop("parameters", None)
    return chat_pb2.Tool(**function, parameters_json=json.dumps(parameters) if parameters else "")


def as_json(functions):
    return json.dumps([{"type": "function", "function": function} for function in functions])


def asking(**fields):
    question = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    return chat_pb2.ChatRequest(messages=[question], **fields)


@pytest.mark.parametrize(
    ("count", "choice"), [(1, ""), (2, ""), (3, ""), (3, "none"), (1, "required"), (2, "required")]
)
async def test_tools_as_messages_give_the_prompt_and_the_constraint_of_tools_in_json(
    suite, chat, count, choice
):
    functions = DECLARED[:count]
    typed = asking(tools=[as_message(function) for function in functions], tool_choice=choice)
    await chat.Complete(asking(tools_json=as_json(functions), tool_choice=choice))
    await chat.Complete(typed)
    first, second = suite.decode.submits
    assert list(first.prompt_token_ids) == list(second.prompt_token_ids)
    assert first.constraint == second.constraint
    declared = "get_weather" in suite.tokenizer.decode(second.prompt_token_ids)
    assert declared == (choice != "none")


async def test_calls_of_tools_declared_as_messages_come_as_calls(suite, chat):
    suite.say(f"r</think>{TWO_CALLS}")
    tools = [chat_pb2.Tool(name="get_weather"), chat_pb2.Tool(name="a.b-c")]
    [choice] = (await chat.Complete(asking(tools=tools))).choices
    assert calls(choice) == MADE


GOOD = chat_pb2.Tool(name="good")
WRONG_TOOLS = [
    ({"tools": [GOOD], "tools_json": as_json([{"name": "good"}])}, "tools"),
    ({"tools": [GOOD], "tools_json": "[]", "tool_choice": "none"}, "tools"),
    ({"tools": [GOOD, chat_pb2.Tool()]}, "tools[1].name"),
    ({"tools": [GOOD, GOOD]}, "tools[1].name"),
    ({"tools": [GOOD, chat_pb2.Tool(name="x", parameters_json="{")]}, "tools[1].parameters_json"),
    ({"tools": [chat_pb2.Tool(name="x", parameters_json="[]")]}, "tools[0].parameters_json"),
    ({"tools": [chat_pb2.Tool(name="x", parameters_json='{"type": "string"}')]}, "tools[0].parameters_json"),
    ({"tools": [as_message({"name": "x", "parameters": UNENFORCEABLE, "strict": True})]},
     "tools[0].parameters_json"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), WRONG_TOOLS)
async def test_a_wrong_tool_is_named(suite, chat, fields, param):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat.Complete(asking(**fields))
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidRequest)
    assert error.param.startswith(param)
    assert not suite.decode.submits
