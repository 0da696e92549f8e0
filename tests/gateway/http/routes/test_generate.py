"""POST /generate, SGLang's own route."""

import itertools

import pytest

from tests.gateway.suite import parse_events

URL = "/generate"


async def generate(suite, **body):
    answer = await suite.http.post(URL, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stream(suite, **body):
    answer = await suite.http.post(URL, json={"stream": True, **body})
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    return parse_events(answer.text)


async def test_one_text_gives_one_object(suite):
    suite.say(" upon")
    suite.decode.cached_tokens = 1
    answer = await generate(suite, text="Once", rid="mine", sampling_params={"max_new_tokens": 9})
    submit = suite.decode.submits[0]
    assert list(submit.prompt_token_ids) == suite.tokenizer.encode("Once")
    assert submit.sampling.max_tokens == 9
    stop = min(suite.tokenizer.stop_ids)
    ids = [*suite.tokenizer.encode(" upon"), stop]
    latency = answer["meta_info"].pop("e2e_latency")
    assert 0 < latency < 30
    assert answer == {
        "text": " upon",
        "output_ids": ids,
        "meta_info": {
            "id": "mine",
            "finish_reason": {"type": "stop", "matched": stop},
            "prompt_tokens": len(submit.prompt_token_ids),
            "completion_tokens": len(ids),
            "cached_tokens": 1,
        },
    }


async def test_a_stream_is_cumulative_and_ends_with_what_a_whole_answer_says(suite):
    suite.say("one 🙂 two")
    whole = await generate(suite, text="x")
    events = await stream(suite, text="x")
    assert all(event["meta_info"]["finish_reason"] is None for event in events[:-1])
    for before, after in itertools.pairwise(events):
        assert after["text"].startswith(before["text"])
        assert after["meta_info"]["completion_tokens"] > before["meta_info"]["completion_tokens"]
    last = events[-1]
    assert (last["text"], last["output_ids"]) == (whole["text"], whole["output_ids"])
    assert last["meta_info"]["finish_reason"] == whole["meta_info"]["finish_reason"]
    assert "index" not in last


async def test_what_comes_at_once_is_one_event_with_its_finish(suite):
    suite.say("all of it")
    suite.decode.tokens_per_delta = 1000
    [event] = await stream(suite, text="Once")
    assert event["text"] == "all of it"
    assert event["meta_info"]["finish_reason"]["type"] == "stop"


async def test_no_new_tokens_may_be_asked_for(suite):
    answer = await generate(suite, text="Once", sampling_params={"max_new_tokens": 0})
    assert (answer["text"], answer["output_ids"]) == ("", [])
    assert answer["meta_info"]["completion_tokens"] == 0
    assert answer["meta_info"]["finish_reason"] == {"type": "length", "length": 0}
    assert suite.decode.submits[0].sampling.max_tokens == 0


async def test_a_stop_string_is_named_and_trimmed(suite):
    suite.say("seven Question: next", end=False)
    params = {"stop": ["Question", "Assistant:", "<|separator|>"], "max_new_tokens": 50}
    answer = await generate(suite, text="x", sampling_params=params)
    assert answer["text"] == "seven "
    assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": "Question"}


async def test_a_list_gives_a_list_and_choices_follow_each_other(suite):
    encode, stop = suite.tokenizer.encode, min(suite.tokenizer.stop_ids)
    suite.decode.script = lambda submit, choice: [*submit.prompt_token_ids, *encode(str(choice)), stop]
    answers = await generate(suite, text=["a", "b"], sampling_params=[{"n": 2}, {}])
    assert [answer["text"] for answer in answers] == ["a0", "a1", "b0"]
    assert [answer["text"] for answer in await generate(suite, input_ids=[encode("c")])] == ["c0"]
    assert (await generate(suite, input_ids=encode("d")))["text"] == "d0"
    events = await stream(suite, text=["a", "b"], sampling_params=[{"n": 2}, {}])
    last = {event["index"]: event["text"] for event in events}
    assert last == {0: "a0", 1: "a1", 2: "b0"}


async def test_logprobs_are_triples_with_their_text_on_request(suite):
    suite.say("ab")
    ids = [*suite.tokenizer.encode("ab"), min(suite.tokenizer.stop_ids)]
    meta = (await generate(suite, text="x", return_logprob=True, logprob_start_len=-1))["meta_info"]
    assert meta["output_token_logprobs"] == [[-0.5, token, None] for token in ids]
    assert meta["input_token_logprobs"] == []
    assert "output_top_logprobs" not in meta
    asked = {"return_logprob": True, "top_logprobs_num": 2, "return_text_in_logprobs": True}
    meta = (await generate(suite, text="x", **asked))["meta_info"]
    assert meta["output_token_logprobs"][0][2] == suite.tokenizer.decode(ids[:1])
    assert [entry[0] for entry in meta["output_top_logprobs"][0]] == [-0.5, -1.5]


async def test_every_sampling_parameter_reaches_the_worker(suite):
    params = {
        "temperature": 0, "top_p": 0.5, "top_k": -1, "min_p": 0.25, "presence_penalty": 1,
        "frequency_penalty": -1, "repetition_penalty": 1.5, "sampling_seed": 3, "min_new_tokens": 1,
        "max_new_tokens": 4, "ignore_eos": True, "stop_token_ids": [5], "logit_bias": {"7": -3},
    }  # fmt: skip
    await generate(suite, text="x", sampling_params=params)
    sampling = suite.decode.submits[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0, 0.5, 0, 0.25)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (
        1,
        -1,
        1.5,
    )
    assert (sampling.seed, sampling.min_tokens, sampling.max_tokens, sampling.ignore_eos) == (3, 1, 4, True)
    assert (list(sampling.stop_token_ids), dict(sampling.logit_bias)) == ([5], {7: -3})


async def test_put_is_answered_like_post(suite):
    assert (await suite.http.put(URL, json={"text": "x"})).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": "x", "input_ids": [1]}, "text"),
        ({"text": []}, "text"),
        ({"input_ids": [1, [2]]}, "input_ids[0]"),
        ({"text": ["x", "y"], "sampling_params": [{}]}, "sampling_params"),
        ({"text": "x", "sampling_params": {"max_new_tokens": -1}}, "sampling_params.max_new_tokens"),
        ({"text": ["x"], "sampling_params": [{"top_p": 2}]}, "sampling_params[0].top_p"),
        ({"text": "x", "sampling_params": {"regex": "("}}, "sampling_params.regex"),
        ({"text": "x", "sampling_params": {"json_schema": "{"}}, "sampling_params.json_schema"),
        ({"text": "x", "sampling_params": {"stop_regex": "a"}}, "sampling_params.stop_regex"),
        ({"text": "x", "sampling_params": {"stream_interval": 5}}, "sampling_params.stream_interval"),
        ({"text": "x", "return_logprob": True, "logprob_start_len": -2}, "logprob_start_len"),
        ({"text": "x", "return_logprob": True, "logprob_start_len": 1}, "logprob_start_len"),
        ({"text": "x", "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"text": "x", "return_logprob": True, "top_logprobs_num": 99}, "top_logprobs_num"),
        ({"text": "x", "image_data": ["data:,"]}, "image_data"),
        ({"text": "x", "return_hidden_states": True}, "return_hidden_states"),
    ],
)
async def test_a_wrong_value_is_refused_by_name(suite, body, param):
    answer = await suite.http.post(URL, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert not suite.decode.submits
