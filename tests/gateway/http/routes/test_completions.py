"""POST /v1/completions."""

import asyncio

import pytest

from tests.gateway.suite import open_suite, parse_events, wait_until

URL = "/v1/completions"


async def complete(suite, **body):
    answer = await suite.http.post(URL, json={"prompt": "Once", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stream(suite, **body):
    answer = await suite.http.post(URL, json={"prompt": "Once", "stream": True, **body})
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    return parse_events(answer.text)


def texts(chunks, index):
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["text"] for choice in choices)


async def test_a_prompt_is_continued_as_it_stands(suite):
    suite.say(" upon a time</think>")
    answer = await complete(suite, model="kimi-alias", prompt="Once<|im_end|>")
    submit = suite.decode.submits[0]
    assert list(submit.prompt_token_ids) == suite.tokenizer.encode("Once<|im_end|>")
    assert submit.sampling.max_tokens == 16
    assert answer["id"].startswith("cmpl-")
    assert (answer["object"], answer["model"]) == ("text_completion", "kimi-alias")
    assert answer["choices"] == [
        {"index": 0, "text": " upon a time</think>", "logprobs": None, "finish_reason": "stop"}
    ]
    assert answer["usage"]["prompt_tokens"] == len(submit.prompt_token_ids)


async def test_control_tokens_are_parsed_when_asked_for(suite):
    await complete(suite, prompt="a<|im_end|>", parse_special=True)
    assert suite.decode.submits[0].prompt_token_ids[-1] == suite.tokenizer.special.im_end


@pytest.mark.parametrize("as_ids", [False, True])
async def test_several_prompts_have_their_choices_one_after_another(suite, as_ids):
    words = ["one", "two", "three"]
    encode, stop = suite.tokenizer.encode, min(suite.tokenizer.stop_ids)
    said = {tuple(encode(word)): f"{word}:" for word in words}

    def script(submit, choice):
        return [*encode(f"{said[tuple(submit.prompt_token_ids)]}{choice}"), stop]

    suite.decode.script = script
    prompts = [encode(word) for word in words] if as_ids else words
    expected = ["one:0", "one:1", "two:0", "two:1", "three:0", "three:1"]
    whole = await complete(suite, prompt=prompts, n=2)
    assert [choice["index"] for choice in whole["choices"]] == list(range(6))
    assert [choice["text"] for choice in whole["choices"]] == expected
    counted = sum(len(encode(word)) for word in words)
    assert whole["usage"]["prompt_tokens"] == counted
    chunks = await stream(suite, prompt=prompts, n=2, stream_options={"include_usage": True})
    assert [texts(chunks, index) for index in range(6)] == expected
    assert chunks[-1]["usage"] == whole["usage"]


async def test_a_list_of_ids_is_one_prompt(suite):
    await complete(suite, prompt=[1, 2, 3])
    assert list(suite.decode.submits[0].prompt_token_ids) == [1, 2, 3]


async def test_no_chunk_is_without_a_text_unless_usage_is_asked_for(suite):
    suite.say("日本 🙂 done")
    chunks = await stream(suite)
    assert all(len(chunk["choices"]) == 1 and "text" in chunk["choices"][0] for chunk in chunks)
    assert all("usage" not in chunk for chunk in chunks)
    assert texts(chunks, 0) == "日本 🙂 done"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    chunks = await stream(suite, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []


async def test_the_prompt_is_echoed_once_before_each_text(suite):
    suite.say("!")
    assert [c["text"] for c in (await complete(suite, echo=True, n=2))["choices"]] == ["Once!", "Once!"]
    chunks = await stream(suite, prompt=suite.tokenizer.encode("Twice"), echo=True)
    assert texts(chunks, 0) == "Twice!"


@pytest.mark.parametrize("tokens_per_delta", [1, 1000])
@pytest.mark.parametrize("said", ["", "!"])
async def test_the_finish_of_a_stream_comes_without_text(suite, tokens_per_delta, said):
    suite.say(said)
    suite.decode.tokens_per_delta = tokens_per_delta
    for fields in ({}, {"logprobs": 1}, {"echo": True}):
        chunks = await stream(suite, **fields)
        [*others, last] = [chunk["choices"][0] for chunk in chunks]
        assert (last["text"], last["finish_reason"]) == ("", "stop")
        assert all(each["finish_reason"] is None for each in others)
        assert texts(chunks, 0) == ("Once" if "echo" in fields else "") + said


async def test_logprobs_have_the_older_shape_streamed_or_not(suite):
    suite.say("a 🙂")
    whole = (await complete(suite, logprobs=2))["choices"][0]["logprobs"]
    ids = [*suite.tokenizer.encode("a 🙂"), min(suite.tokenizer.stop_ids)]
    assert whole["token_logprobs"] == [-0.5] * len(ids)
    assert len(whole["tokens"]) == len(whole["top_logprobs"]) == len(ids)
    assert whole["tokens"][0] == "a"
    assert any(token.startswith("bytes:\\x") for token in whole["tokens"])
    assert all(whole["tokens"][i] in whole["top_logprobs"][i] for i in range(len(ids)))
    offsets = whole["text_offset"]
    assert (offsets[0], offsets[1], offsets[-1]) == (0, 1, len("a 🙂"))
    assert offsets == sorted(offsets)
    parts = [chunk["choices"][0]["logprobs"] for chunk in await stream(suite, logprobs=2)]
    for key, values in whole.items():
        assert [entry for part in parts if part for entry in part[key]] == values


async def test_an_offset_counts_a_character_that_stays_broken(suite):
    half, *_, rest = suite.tokenizer.encode("🙂")
    [word] = suite.tokenizer.encode(" it")
    ids = [half, word, rest, rest, half, word]
    suite.decode.script = lambda submit, choice: ids
    choice = (await complete(suite, logprobs=0, max_tokens=len(ids)))["choices"][0]
    offsets = choice["logprobs"]["text_offset"]
    assert choice["text"] == "\ufffd it\ufffd\ufffd\ufffd it"
    assert [choice["text"][offset:][:3] for offset in (offsets[1], offsets[5])] == [" it"] * 2
    assert offsets == [0, 1, 4, 5, 6, 7]


async def test_a_stop_string_ends_the_text(suite):
    suite.say("red Question: never", end=False)
    choice = (await complete(suite, stop=["Question"], max_tokens=50))["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("red ", "stop")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [1, [2]]}, "prompt[0]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": [[1], [-1]]}, "prompt[1][0]"),
        ({"prompt": [1, 10**30]}, "prompt[1]"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"regex": "("}, "regex"),
        ({"lora_path": "x"}, "lora_path"),
        ({"stream_options": {}}, "stream_options"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"json_schema": "{"}, "json_schema"),
    ],
)
async def test_a_wrong_value_is_refused_by_name(suite, fields, param):
    answer = await suite.http.post(URL, json={"prompt": "x", **fields})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert not suite.decode.submits


async def test_each_prompt_counts_as_a_request_and_leaves_with_it():
    async with open_suite(max_concurrent_requests=2) as suite:
        suite.decode.admit = asyncio.Event()
        other = asyncio.create_task(suite.http.post(URL, json={"prompt": "a"}))
        await wait_until(lambda: suite.decode.submits)
        assert (await suite.http.post(URL, json={"prompt": ["a", "b"]})).status_code == 429
        suite.decode.admit.set()
        assert (await other).status_code == 200
        assert (await suite.http.post(URL, json={"prompt": ["a", "b"]})).status_code == 200
        assert (await suite.http.post(URL, json={"prompt": ["a", "b"]})).status_code == 200


async def test_more_prompts_than_can_ever_run_together_are_refused_with_the_bound():
    async with open_suite(max_concurrent_requests=2) as suite:
        answer = await suite.http.post(URL, json={"prompt": ["a", "b", "c"]})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], "at most 2 at a time" in error["message"]) == (
            400,
            "prompt",
            True,
        )
        assert not suite.decode.submits


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_failure_of_one_prompt_ends_the_call_and_stops_the_others(streaming):
    async with open_suite(max_failovers=0) as suite:
        words = {tuple(suite.tokenizer.encode(word)): word for word in ("good", "bad")}

        def script(submit, choice):
            # An id outside the vocabulary is a defect of the worker that no text can be made of.
            return [7] * 400 if words[tuple(submit.prompt_token_ids)] == "good" else [7, 1 << 20]

        suite.decode.script = script
        suite.decode.step_s = 0.01
        body = {"prompt": ["good", "bad"], "stream": streaming, "max_tokens": 400}
        answer = await suite.http.post(URL, json=body)
        last = parse_events(answer.text)[-1] if streaming else answer.json()
        assert "error" in last
        assert answer.status_code == (200 if streaming else 400)
        async with asyncio.timeout(5):
            await suite.decode.cancelled.wait()
        await wait_until(lambda: suite.gateway._admission._inside == 0)
