"""Log-probabilities of prompts: the shapes of all routes, what the worker is asked for, and failover."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.gateway.pipeline.prompt.scoring import MOST_LOGPROBS
from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import open_suite, parse_events

PROMPT = "Once upon a 🙂"
LONG = [7] * 5000


@pytest.fixture
async def pair():
    """A suite with two decode workers."""
    async with open_suite(decodes=2) as suite:
        suite.say("!")
        for decode in suite.decodes:
            decode.deaths = 1
        yield suite


async def post(suite, route: str, **body: Any) -> Any:
    answer = await suite.http.post(route, json=body)
    assert answer.status_code == 200, answer.text
    return parse_events(answer.text) if body.get("stream") else answer.json()


async def complete(suite, **body: Any) -> Any:
    """Answers of /v1/completions that echo PROMPT with log-probabilities."""
    return await post(suite, "/v1/completions", **{"prompt": PROMPT, "echo": True, "logprobs": 2, **body})


async def refusal(suite, route: str, **body: Any) -> tuple[int, str | None, str]:
    """Status, field and message of the error."""
    answer = await suite.http.post(route, json=body)
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["message"]


def scores_of(ids: list[int]) -> list[float | None]:
    """What FakeDecode gives."""
    return [None, *(-place / 8 for place in range(1, len(ids)))]


def submits(suite) -> list[Any]:
    return [submit for decode in suite.decodes for submit in decode.submits]


async def test_an_echoed_prompt_comes_first_in_the_lists(suite):
    suite.say("!")
    ids = suite.tokenizer.encode(PROMPT)
    [choice] = (await complete(suite))["choices"]
    logprobs = choice["logprobs"]
    assert choice["text"] == PROMPT + "!"
    assert logprobs["token_logprobs"] == [*scores_of(ids), -0.5, -0.5]
    assert logprobs["tokens"][0] == "Once"
    assert any(token.startswith("bytes:\\x") for token in logprobs["tokens"])
    first, second, *_ = logprobs["top_logprobs"]
    assert first is None
    assert second[logprobs["tokens"][1]] == -1 / 8
    assert logprobs["text_offset"][len(ids)] == len(PROMPT)
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
    [submit] = suite.decode.submits
    assert (submit.scoring.first_token, submit.scoring.top) == (1, 2)


MARKED = "<|im_user|>user<|im_middle|>Hi<|im_end|>"


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_offsets_are_places_in_the_echoed_text_with_its_special_tokens(suite, skip, stream):
    suite.say("Hello")
    fields = {"prompt": MARKED, "parse_special": True, "skip_special_tokens": skip, "logprobs": 0}
    given = await complete(suite, stream=stream, **fields)
    parts = [part for chunk in given for part in chunk["choices"]] if stream else given["choices"]
    text = "".join(part["text"] for part in parts)
    tokens = [
        pair
        for part in parts
        if part["logprobs"]
        for pair in zip(part["logprobs"]["tokens"], part["logprobs"]["text_offset"], strict=True)
    ]
    assert text == f"{MARKED}Hello"
    assert all(text[offset:].startswith(token) for token, offset in tokens[:-1])
    assert tokens[0] == ("<|im_user|>", 0)
    assert tokens[-1][1] == len(text)


async def test_an_answer_begins_behind_the_whole_echo_of_a_broken_character(suite):
    half, *_ = suite.tokenizer.encode("🙂")
    suite.say("Hi")
    [choice] = (await complete(suite, prompt=[half]))["choices"]
    assert choice["text"] == "\ufffdHi"
    assert choice["logprobs"]["text_offset"][:2] == [0, 1]


@pytest.mark.parametrize(
    "fields", [{}, {"max_tokens": 0}, {"n": 2}, {"prompt": ["a b", PROMPT]}, {"logprobs": 0}]
)
async def test_a_stream_joins_to_the_whole_answer_and_the_prompt_comes_first(suite, fields):
    suite.say("!")
    whole = await complete(suite, **fields)
    chunks = await complete(suite, stream=True, **fields)
    for choice in whole["choices"]:
        parts = [part for chunk in chunks for part in chunk["choices"] if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        lists = [part["logprobs"] for part in parts if part["logprobs"]]
        for key, entries in choice["logprobs"].items():
            assert [entry for part in lists for entry in part[key]] == entries
        assert parts[0]["logprobs"]["token_logprobs"][0] is None
        assert (parts[-1]["text"], parts[-1]["finish_reason"]) == ("", choice["finish_reason"])


async def test_without_tokens_to_generate_only_the_prompt_is_answered(suite):
    ids = suite.tokenizer.encode(PROMPT)
    [choice] = (await complete(suite, max_tokens=0))["choices"]
    assert (choice["text"], choice["finish_reason"]) == (PROMPT, "length")
    assert choice["logprobs"]["token_logprobs"] == scores_of(ids)


async def test_one_token_has_nothing_to_be_scored(suite):
    [choice] = (await complete(suite, prompt=[5], max_tokens=0))["choices"]
    assert choice["logprobs"]["token_logprobs"] == [None]
    assert not suite.decode.submits[0].HasField("scoring")


async def test_generate_gives_the_prompt_from_the_start_that_was_asked_for(suite):
    suite.say("!")
    ids = suite.tokenizer.encode(PROMPT)
    asked = {"text": PROMPT, "return_logprob": True, "top_logprobs_num": 1, "return_text_in_logprobs": True}
    for start in (0, 2):
        meta = (await post(suite, "/generate", logprob_start_len=start, **asked))["meta_info"]
        assert [entry[0] for entry in meta["input_token_logprobs"]] == [None, *scores_of(ids)[start + 1 :]]
        assert [entry[1] for entry in meta["input_token_logprobs"]] == ids[start:]
        assert meta["input_token_logprobs"][1][2] == suite.tokenizer.decode(ids[start + 1 : start + 2])
        assert meta["input_top_logprobs"][0] is None
        assert [len(top) for top in meta["input_top_logprobs"][1:]] == [1] * (len(ids) - start - 1)
        assert suite.decode.submits[-1].scoring.first_token == max(1, start)


async def test_the_first_and_the_last_event_of_a_generate_stream_have_the_prompts(suite):
    suite.say("one two three four")
    suite.decode.step_s = 0.005  # events of single tokens
    asked = {"text": PROMPT, "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 1}
    whole = await post(suite, "/generate", **asked)
    events = await post(suite, "/generate", stream=True, **asked)
    [first, *others, last] = [event["meta_info"] for event in events]
    for name in ("input_token_logprobs", "input_top_logprobs"):
        assert first[name] == last[name] == whole["meta_info"][name]
        assert not any(event.get(name) for event in others)
    assert others


async def test_each_prompt_of_a_generate_call_has_its_own_start(suite):
    suite.say("!")
    answers = await post(
        suite,
        "/generate",
        text=[PROMPT] * 3,
        return_logprob=[True, True, False],
        logprob_start_len=[1, -1, 0],
    )
    counts = [len(each["meta_info"].get("input_token_logprobs", ())) for each in answers]
    assert counts == [len(suite.tokenizer.encode(PROMPT)) - 1, 0, 0]


async def test_vllms_field_gives_entries_by_token_id(suite):
    suite.say("!")
    ids = suite.tokenizer.encode(PROMPT)
    answer = await post(suite, "/v1/completions", prompt=PROMPT, prompt_logprobs=2)
    first, second, *others = answer["choices"][0]["prompt_logprobs"]
    assert first is None
    assert second == {
        str(ids[1]): {"logprob": -1 / 8, "rank": 1, "decoded_token": suite.tokenizer.decode(ids[1:2])},
        str(ids[1] - 1): {
            "logprob": -1 - 1 / 16,
            "rank": 2,
            "decoded_token": suite.tokenizer.decode([ids[1] - 1]),
        },
    }
    assert [position[str(token)]["rank"] for position, token in zip(others, ids[2:], strict=True)] == list(
        range(2, len(ids))
    )
    none = await post(suite, "/v1/completions", prompt=PROMPT, prompt_logprobs=0)
    assert [list(entry) for entry in none["choices"][0]["prompt_logprobs"][1:]] == [
        [str(token)] for token in ids[1:]
    ]


async def test_echo_and_vllms_field_each_have_their_own_number_of_alternatives(suite):
    suite.say("!")
    [choice] = (await complete(suite, logprobs=1, prompt_logprobs=3))["choices"]
    assert suite.decode.submits[0].scoring.top == 3
    assert [len(top) for top in choice["logprobs"]["top_logprobs"][1:3]] == [1, 1]
    assert [len(entry) for entry in choice["prompt_logprobs"][1:3]] == [3, 3]


async def test_a_chat_has_them_beside_its_choices_and_null_for_the_pads_of_an_image(suite):
    suite.say("!")
    message = {"role": "user", "content": [image_part(picture(56, 56)), {"type": "text", "text": "What?"}]}
    answer = (await suite.chat(messages=[message], prompt_logprobs=0)).json()
    [submit] = suite.decode.submits
    [medium] = submit.media
    pads = range(medium.token_offset, medium.token_offset + medium.num_tokens)
    missing = [place for place, entry in enumerate(answer["prompt_logprobs"]) if entry is None]
    assert missing == [0, *pads]
    assert len(answer["prompt_logprobs"]) == len(submit.prompt_token_ids)


async def test_nothing_is_asked_of_the_worker_unless_the_caller_asks(suite):
    suite.say("!")
    await complete(suite, logprobs=None)
    await complete(suite, echo=False)
    await post(suite, "/generate", text=PROMPT, return_logprob=True)
    await post(suite, "/generate", text=PROMPT, logprob_start_len=0)
    answer = (await suite.chat()).json()
    assert "prompt_logprobs" not in answer
    assert not any(submit.HasField("scoring") for submit in submits(suite))


async def test_a_start_behind_the_prompt_is_refused(suite):
    asked = {"input_ids": [1, 2, 3], "return_logprob": True, "logprob_start_len": 3}
    status, param, message = await refusal(suite, "/generate", **asked)
    assert (status, param) == (400, "logprob_start_len")
    assert "the prompt has 3 tokens" in message
    assert not suite.decode.submits


async def test_more_than_an_answer_may_hold_is_refused_for_one_prompt_and_for_all_together(suite):
    suite.say("!")
    top = 20
    prompts = MOST_LOGPROBS // (len(LONG) * (1 + top)) + 1
    status, param, message = await refusal(
        suite, "/v1/completions", prompt=[LONG] * prompts, echo=True, logprobs=top, max_tokens=0
    )
    assert (status, param) == (400, "logprobs")
    assert str(MOST_LOGPROBS) in message
    assert (
        await suite.http.post("/v1/completions", json={"prompt": [LONG] * prompts, "max_tokens": 1})
    ).is_success


async def test_a_long_prompt_is_answered_in_full(suite):
    suite.say("!")
    body = {"prompt": LONG, "echo": True, "logprobs": 3, "prompt_logprobs": 3, "max_tokens": 0}
    [choice] = (await post(suite, "/v1/completions", **body))["choices"]
    assert choice["logprobs"]["token_logprobs"] == scores_of(LONG)
    assert len(choice["prompt_logprobs"]) == len(LONG)


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_worker_that_dies_amid_the_scores_is_replaced_and_none_is_lost(pair, streaming):
    for decode in pair.decodes:
        decode.die_at_score = 3
    answer = await complete(pair, stream=streaming)
    chunks = answer if streaming else [answer]
    lists = [part["logprobs"] for chunk in chunks for part in chunk["choices"] if part["logprobs"]]
    found = [entry for part in lists for entry in part["token_logprobs"]]
    assert found == [*scores_of(pair.tokenizer.encode(PROMPT)), -0.5, -0.5]
    assert [submit.scoring.first_token for submit in submits(pair)] == [1, 1, 1]


async def test_a_worker_that_dies_after_the_scores_is_replaced_without_asking_for_them_again(pair):
    for decode in pair.decodes:
        decode.fail_after = 1
    [choice] = (await complete(pair))["choices"]
    assert choice["logprobs"]["token_logprobs"] == [*scores_of(pair.tokenizer.encode(PROMPT)), -0.5, -0.5]
    scored = sorted(submit.HasField("scoring") for submit in submits(pair))
    assert scored == [False] * (len(scored) - 1) + [True]
    assert len(scored) > 1


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_worker_that_knows_no_scores_gives_an_error_and_no_wrong_answer(suite, streaming):
    suite.say("!")
    suite.decode.knows_scoring = False
    answer = await suite.http.post(
        "/v1/completions", json={"prompt": PROMPT, "echo": True, "logprobs": 1, "stream": streaming}
    )
    last = answer.text.strip().rpartition("data: ")[2]
    assert json.loads(last)["error"]["code"] == "incompatible"
    assert answer.status_code == (200 if streaming else 503)
