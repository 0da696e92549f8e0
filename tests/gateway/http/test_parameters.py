"""Parameters of a chat body beyond the plain sampling controls."""

import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, sampling_pb2
from tests.gateway.pictures import image_part, picture, video_part
from tests.gateway.suite import joined, open_suite
from tests.support.videos import film


async def test_every_chunk_tells_of_the_usage_so_far_when_asked_to(suite):
    suite.decode.step_s = 0.02  # else some come together, and are one chunk
    chunks = await suite.stream(stream_options={"continuous_usage_stats": True})
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert len(set(counts)) > 2
    assert all(chunk["choices"] for chunk in chunks)
    assert chunks[-1]["usage"] == (await suite.chat()).json()["usage"]


async def test_usage_so_far_and_a_last_chunk_of_usage_go_together(suite):
    options = {"continuous_usage_stats": True, "include_usage": True}
    chunks = await suite.stream(stream_options=options)
    assert all(chunk["usage"] for chunk in chunks)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], chunks[-2]["usage"])


async def test_special_tokens_are_in_the_text_when_they_are_not_to_be_skipped(suite):
    suite.say("hm</think>a<|im_user|>b")
    skipped = (await suite.chat()).json()["choices"][0]["message"]["content"]
    kept = (await suite.chat(skip_special_tokens=False)).json()["choices"][0]["message"]["content"]
    assert (skipped, kept) == ("ab", "a<|im_user|>b")
    assert joined(await suite.stream(skip_special_tokens=False), "content") == kept


async def test_special_tokens_are_kept_over_grpc_too(suite):
    suite.say("hm</think>a<|im_user|>b")
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])],
        sampling=sampling_pb2.SamplingParams(keep_special_tokens=True),
    )
    answer = await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(request)
    assert answer.choices[0].content == "a<|im_user|>b"


async def test_the_usage_counts_the_tokens_of_images_and_videos(suite):
    content = [image_part(picture(448, 448)), video_part(film(num_frames=33))]
    usage = (await suite.chat(messages=[{"role": "user", "content": content}])).json()["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "image_tokens": 256, "video_tokens": 24}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 0.6}, "temperature"),
        ({"temperature": 1.0, "thinking": {"type": "disabled"}}, "temperature"),
        ({"top_p": 1.0}, "top_p"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -0.5}, "frequency_penalty"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"n": 2}, "n"),
    ],
)
async def test_the_profile_of_moonshot_refuses_other_sampling_than_its_own(moonshot, fields, param):
    answer = await moonshot.chat(**fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, "unsupported_value")
    assert "moonshot" in error["message"]


async def test_the_profile_of_moonshot_takes_its_own_sampling_spelt_out(moonshot):
    fixed = {"top_p": 0.95, "presence_penalty": 0, "frequency_penalty": 0, "n": 1}
    assert (await moonshot.chat(temperature=1.0, **fixed)).status_code == 200
    instant = {"thinking": {"type": "disabled"}}
    assert (await moonshot.chat(temperature=0.6, **instant, **fixed)).status_code == 200
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])],
        sampling=sampling_pb2.SamplingParams(temperature=0.6, top_p=0.95),
        thinking=False,
    )
    assert (await chat_pb2_grpc.ChatServiceStub(moonshot.channel).Complete(request)).choices


@pytest.fixture
async def moonshot():
    async with open_suite(profile="moonshot") as suite:
        yield suite


@pytest.mark.parametrize("value", [10**40, 0.5, None, {"deep": 1}])
async def test_odd_values_in_tools_and_arguments_are_no_failure_of_ours(suite, value):
    for _ in range(300 if isinstance(value, dict) else 0):
        value = [value]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x": value}}}
    call = {"id": "c", "function": {"name": "f", "arguments": {"x": value}}}
    messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "x"}]
    for body in ({"tools": [tool]}, {"messages": messages}):
        answer = await suite.chat(**body)
        assert answer.status_code in (200, 400), answer.text


async def test_more_messages_tools_or_text_than_configured_are_refused():
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 40}}
    turn = {"role": "user", "content": "y" * 30}
    async with open_suite(max_messages=2, max_tools=1, max_prompt_characters=100) as suite:
        assert (await suite.chat(messages=[turn] * 2)).status_code == 200
        for fields, param in [
            ({"messages": [turn] * 3}, "messages"),
            ({"messages": [{"role": "assistant", "reasoning_content": "z" * 101}]}, "messages"),
            ({"messages": [turn], "tools": [tool] * 2}, "tools"),
            ({"messages": [turn], "tools": [tool]}, "tools"),
        ]:
            answer = await suite.chat(**fields)
            assert answer.status_code == 400, fields
            assert answer.json()["error"]["param"] == param
        assert len(suite.decode.submits) == 1
