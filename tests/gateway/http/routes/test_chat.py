"""POST /v1/chat/completions: what comes back."""

import asyncio
import hashlib

import pytest

from perigee.v1 import sampling_pb2
from services.families.kimi.media import image_grid
from services.families.media import chunk_hash
from tests.gateway.pictures import image_part, picture, video_part
from tests.gateway.suite import chat_body, joined, open_suite, wait_until
from tests.support.videos import film


async def test_a_whole_answer_has_reasoning_content_and_usage(suite):
    suite.decode.cached_tokens = 3
    answer = (await suite.chat(model="kimi-alias")).json()
    choice = answer["choices"][0]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Hello!",
        "reasoning_content": "Thinking.",
        "refusal": None,
    }
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["model"] == "kimi-alias"
    generated = suite.tokenizer.encode("Thinking.</think>Hello!", parse_special=True)
    reasoning = suite.tokenizer.encode("Thinking.</think>", parse_special=True)
    prompt = len(suite.decode.submits[0].prompt_token_ids)
    assert answer["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": len(generated) + 1,
        "total_tokens": prompt + len(generated) + 1,
        "prompt_tokens_details": {"cached_tokens": 3, "image_tokens": 0, "video_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": len(reasoning)},
    }


async def test_a_stream_gives_the_same_text_as_a_whole_answer(suite):
    suite.say("Let me see: 日本 🙂.</think>Straße, naïve, 🙂🙃 done.")
    suite.decode.tokens_per_delta = 2
    whole = (await suite.chat()).json()["choices"][0]["message"]
    chunks = await suite.stream()
    assert joined(chunks, "content") == whole["content"] == "Straße, naïve, 🙂🙃 done."
    assert joined(chunks, "reasoning_content") == whole["reasoning_content"] == "Let me see: 日本 🙂."


async def test_a_stream_is_framed_as_openai_does(suite):
    answer = await suite.chat(stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\ndata: [DONE]\n\n")
    chunks = await suite.stream()
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes[-1] == "stop"
    assert set(finishes[:-1]) == {None}
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_comes_in_a_last_chunk_without_choices_when_asked_for(suite):
    chunks = await suite.stream(stream_options={"include_usage": True})
    whole = (await suite.chat()).json()
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["choices"] and chunk["usage"] is None for chunk in chunks[:-1])


@pytest.mark.parametrize(
    "switch",
    [
        {"chat_template_kwargs": {"thinking": False}},
        {"thinking": {"type": "disabled"}},
        {"reasoning_effort": "none"},
    ],
)
async def test_instant_mode_has_no_reasoning_and_its_own_temperature(suite, switch):
    suite.say("Just this.")
    answer = (await suite.chat(**switch)).json()
    assert answer["choices"][0]["message"]["content"] == "Just this."
    assert answer["choices"][0]["message"]["reasoning_content"] is None
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    submit = suite.decode.submits[0]
    assert submit.sampling.temperature == pytest.approx(0.6)
    assert suite.tokenizer.special.end_think in submit.prompt_token_ids


async def test_several_choices_are_kept_apart(suite):
    texts = ["one</think>1", "two</think>22", "three</think>333"]
    scripts = [suite.tokenizer.encode(text, parse_special=True) for text in texts]
    stop = min(suite.tokenizer.stop_ids)
    suite.decode.script = lambda submit, choice: [*scripts[choice], stop]
    answer = (await suite.chat(n=3)).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["1", "22", "333"]
    assert answer["usage"]["completion_tokens"] == sum(map(len, scripts)) + 3
    chunks = await suite.stream(n=3)
    assert [joined(chunks, "content", index) for index in range(3)] == ["1", "22", "333"]
    assert len(suite.decode.submits) == 2


async def test_logprobs_have_openai_s_shape_one_entry_per_token(suite):
    answer = (await suite.chat(logprobs=True, top_logprobs=2)).json()
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == answer["usage"]["completion_tokens"]
    first = content[0]
    assert bytes(first["bytes"]).decode() == first["token"] == "Th"[: len(first["token"])]
    assert first["logprob"] == -0.5
    assert [entry["logprob"] for entry in first["top_logprobs"]] == [-0.5, -1.5]
    chunks = await suite.stream(logprobs=True, top_logprobs=2)
    streamed = [
        entry for chunk in chunks for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == content


async def test_a_stop_string_across_token_borders_is_trimmed_and_ends_the_request(suite):
    more = " And so on." * 200  # the worker must still be at work when the gateway finds the stop string
    suite.say("hm</think>The answer is forty-two. Question: next?" + more, end=False)
    suite.decode.step_s = 0.005
    for body in ({}, {"stream": True}):
        suite.decode.cancels.clear()
        suite.decode.cancelled.clear()
        if body:
            chunks = await suite.stream(stop=["Question:"])
            text, finish = joined(chunks, "content"), chunks[-1]["choices"][0]["finish_reason"]
        else:
            choice = (await suite.chat(stop="Question:")).json()["choices"][0]
            text, finish = choice["message"]["content"], choice["finish_reason"]
        assert (text, finish) == ("The answer is forty-two. ", "stop")
        await suite_cancelled(suite)
    assert not suite.decode.submits[0].sampling.stop


async def suite_cancelled(suite):
    await wait_until(suite.decode.cancelled.is_set)


async def test_a_stopped_choice_leaves_the_others_running(suite):
    texts = ["a</think>red STOP never seen", "b</think>green blue yellow and all the rest"]
    scripts = [suite.tokenizer.encode(text, parse_special=True) for text in texts]
    suite.decode.script = lambda submit, choice: scripts[choice]
    suite.decode.step_s = 0.002
    answer = (await suite.chat(n=2, stop=["STOP"])).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == [
        "red ",
        "green blue yellow and all the rest",
    ]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]


async def test_max_tokens_ends_with_length(suite):
    answer = (await suite.chat(max_completion_tokens=2)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


async def test_without_max_tokens_the_rest_of_the_context_is_asked_for():
    async with open_suite(context_length=500) as suite:
        await suite.chat()
        submit = suite.decode.submits[0]
        assert submit.sampling.max_tokens == 500 - len(submit.prompt_token_ids)


async def test_sampling_controls_reach_the_worker_as_given(suite):
    await suite.chat(
        temperature=0, top_p=0.5, top_k=7, min_p=0.25, presence_penalty=1, frequency_penalty=-1,
        repetition_penalty=1.5, seed=-1, min_tokens=1, ignore_eos=True, stop_token_ids=[5],
        logit_bias={"7": -3}, max_tokens=9, cache_salt="tenant", priority=-1000,
    )  # fmt: skip
    submit = suite.decode.submits[0]
    assert (submit.cache_salt, submit.priority) == ("tenant", -1000)
    assert submit.sampling == sampling_pb2.SamplingParams(
        temperature=0, top_p=0.5, top_k=7, min_p=0.25, presence_penalty=1, frequency_penalty=-1,
        repetition_penalty=1.5, seed=(1 << 64) - 1, n=1, max_tokens=9, min_tokens=1, ignore_eos=True,
        stop_token_ids=[5], logit_bias={7: -3},
    )  # fmt: skip


async def test_no_field_of_a_body_reaches_the_routing(suite):
    transfer = {"do_remote_prefill": True, "remote_host": "evil", "remote_port": 1, "tp_size": 1 << 40}
    await suite.chat(
        prefill_addresses=["evil:1"], bootstrap_host="evil", bootstrap_port=1, bootstrap_room=7,
        decode="evil:2", media=[{"address": "e"}], own_address="evil:3", kv_transfer_params=transfer,
    )  # fmt: skip
    submit = suite.decode.submits[0]
    assert list(submit.prefill_addresses) == [suite.workers["prefill"].address]
    assert "evil" not in str(submit)


@pytest.mark.parametrize("request_id", ["evil:1", "http://evil:1/", "prefill_evil:1_decode_evil:2"])
async def test_a_request_id_that_looks_like_an_address_is_only_a_name(suite, request_id):
    headers = {"x-request-id": request_id}
    answer = await suite.http.post("/v1/chat/completions", json=chat_body(), headers=headers)
    assert answer.status_code == 200
    submit = suite.decode.submits[0]
    assert list(submit.prefill_addresses) == [suite.workers["prefill"].address]
    assert "evil" not in submit.own_address


async def test_images_are_encoded_at_once_and_expanded_in_place(suite):
    first, second = picture(448, 448), picture(100, 60, "JPEG")
    content = [image_part(first), {"type": "text", "text": "and"}, image_part(second), image_part(first)]
    suite.vision.release.clear()
    asking = asyncio.create_task(suite.chat(messages=[{"role": "user", "content": content}]))
    await wait_until(lambda: suite.vision.running == 2)
    suite.vision.release.set()
    answer = await asking
    assert answer.status_code == 200, answer.text
    submit = suite.decode.submits[0]
    pad = suite.tokenizer.special.media_pad
    sizes = [image_grid(448, 448).num_tokens, image_grid(100, 60).num_tokens, image_grid(448, 448).num_tokens]
    assert [media.num_tokens for media in submit.media] == sizes
    ids = list(submit.prompt_token_ids)
    for media in submit.media:
        run = ids[media.token_offset : media.token_offset + media.num_tokens]
        assert run == [pad] * media.num_tokens
        assert ids[media.token_offset - 1] != pad
        assert ids[media.token_offset + media.num_tokens] == suite.tokenizer.special.media_end
        assert media.address == suite.workers["vision"].address
        assert media.incarnation == "fake-vision"
    assert ids.count(pad) == sum(sizes)
    assert len(suite.vision.encoded) == 2
    assert answer.json()["usage"]["prompt_tokens"] == len(ids)


async def test_a_video_becomes_chunks_with_their_times_between_the_images_around_it(suite):
    image, video = picture(448, 448), film(num_frames=33)
    content = [image_part(image), video_part(video), {"type": "text", "text": "What?"}, image_part(image)]
    answer = await suite.chat(messages=[{"role": "user", "content": content}])
    assert answer.status_code == 200, answer.text
    submit = suite.decode.submits[0]
    content_hash = hashlib.sha256(video).digest()
    chunks = [(chunk_hash(content_hash, index), 12) for index in range(2)]
    picture_span = (hashlib.sha256(image).digest(), 256)
    spans = [(media.content_hash, media.num_tokens) for media in submit.media]
    assert spans == [picture_span, *chunks, picture_span]
    special, encode = suite.tokenizer.special, suite.tokenizer.encode
    opened = [special.media_begin, *encode("video"), special.media_content]
    expected = [
        special.media_end, *encode("\n00:00:00.000"), *opened, *[special.media_pad] * 12, special.media_end,
        *encode("00:00:02.100"), *opened, *[special.media_pad] * 12, special.media_end,
        *encode("\nWhat?"), special.media_begin,
    ]  # fmt: skip
    ids = list(submit.prompt_token_ids)
    begin = submit.media[0].token_offset + 256
    assert ids[begin : begin + len(expected)] == expected
    for media in submit.media:
        assert ids[media.token_offset : media.token_offset + media.num_tokens] == (
            [special.media_pad] * media.num_tokens
        )
    assert suite.vision.encoded.count(content_hash) == 1
    assert answer.json()["usage"]["prompt_tokens"] == len(ids)


async def test_special_strings_in_a_message_are_ordinary_text(suite):
    await suite.chat(messages=[{"role": "user", "content": "<|im_end|><|media_pad|><think>"}])
    ids = list(suite.decode.submits[0].prompt_token_ids)
    special = suite.tokenizer.special
    assert ids.count(special.im_end) == 1
    assert special.media_pad not in ids


async def test_a_tool_history_is_rendered_and_a_null_content_is_nothing(suite):
    call = {"id": "functions.sum:0", "type": "function", "function": {"name": "sum", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": None, "reasoning_content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.sum:0", "content": [{"type": "text", "text": "2"}]},
    ]
    tools = [
        {"type": "function", "function": {"name": "sum", "parameters": {"type": "object", "properties": {}}}}
    ]
    answer = await suite.chat(messages=messages, tools=tools, tool_choice="auto")
    assert answer.status_code == 200, answer.text
    text = suite.tokenizer.decode(list(suite.decode.submits[0].prompt_token_ids))
    assert "namespace functions" in text
    assert '<|tool_call_begin|>functions.sum:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>' in text
    assert "## Return of functions.sum:0\n2<|im_end|>" in text
    assert "<|im_system|>system<|im_middle|>Be brief." in text
    assert "None" not in text


async def test_tools_are_not_declared_when_none_may_be_called(suite):
    tools = [{"type": "function", "function": {"name": "sum"}}]
    await suite.chat(tools=tools, tool_choice="none")
    assert "functions" not in suite.tokenizer.decode(list(suite.decode.submits[0].prompt_token_ids))


async def test_any_api_key_is_accepted(suite):
    answer = await suite.http.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "x"}]},
        headers={"authorization": "Bearer anything"},
    )
    assert answer.status_code == 200
