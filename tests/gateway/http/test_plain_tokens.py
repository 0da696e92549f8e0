"""Streams most of whose tokens take the short way have the text, the usage and the order of all others."""

import asyncio
import random
import re
from collections import Counter

import pytest

from services.gateway.pipeline.output.plain_tokens import PlainTokens
from tests.gateway.suite import joined, open_suite

THOUGHT = "Hm, 世界 is two characters, café four and 🦉 one."
ANSWER = 'Say "日本語", 😀👩‍🚀 and\n\\tabs.\u2028' + "".join(f" word {number}" for number in range(12))
TEXT = f"{THOUGHT}</think>{ANSWER}"


@pytest.fixture
async def slow():
    """A suite whose two decode workers take their time for every token, so that the gateway waits for it."""
    async with open_suite(decodes=2) as suite:
        suite.say(TEXT)
        for decode in suite.decodes:
            decode.step_s = 0.004
        yield suite


@pytest.fixture
def taken(monkeypatch):
    """Counts tokens by whether the short way took them."""
    counts, take = Counter(), PlainTokens.take

    def counted(self, token_id, now):
        found = take(self, token_id, now)
        counts[found] += 1
        return found

    monkeypatch.setattr(PlainTokens, "take", counted)
    return counts


async def latencies(suite):
    page = (await suite.http.get("/metrics")).text
    return int(float(re.search(r"^perigee_inter_token_latency_seconds_count ([\d.]+)", page, re.M)[1]))


async def test_text_of_any_script_comes_as_it_was_said_and_is_counted(slow, taken):
    whole = (await slow.chat()).json()
    assert not taken
    chunks = await slow.stream(stream_options={"include_usage": True})
    assert joined(chunks, "reasoning_content") == THOUGHT
    assert joined(chunks, "content") == ANSWER
    tokens = whole["usage"]["completion_tokens"]
    assert taken[True] > tokens / 4
    assert taken[False] > 0, "parts of characters"
    assert chunks[-1]["usage"] == whole["usage"]
    assert await latencies(slow) == 2 * (tokens - 1)


async def test_usage_in_every_event_grows_with_it(slow, taken):
    options = {"continuous_usage_stats": True, "include_usage": True}
    chunks = await slow.stream(stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert len(set(counts)) > len(counts) / 2
    assert joined(chunks, "content") == ANSWER
    assert not taken


async def test_any_characters_and_parts_of_some_of_several_choices_and_of_many_streams_at_once(slow, taken):
    dice = random.Random(8)
    alphabet = ["a", " the", "世", "🦉", "é", "\n", '"', "\\", "👩‍🚀", "</think>"]
    texts = ["".join(dice.choices(alphabet, k=40)) for _ in range(6)]
    ids = [slow.tokenizer.encode(text, parse_special=True) for text in texts]
    part = slow.tokenizer.encode("🦉")[0]
    for each in ids:
        for _ in range(4):
            each.insert(dice.randrange(len(each)), part)
    end = min(slow.tokenizer.stop_ids)
    for decode in slow.decodes:
        decode.step_s = 0.02  # eighteen choices: time to wait between their tokens on a busy machine, too
        decode.script = lambda submit, choice: [*ids[(submit.sampling.seed + choice) % 6], end]
    bodies = [{"seed": seed, "n": 3} for seed in range(6)]
    streams = await asyncio.gather(*(slow.stream(**body) for body in bodies))
    wholes = await asyncio.gather(*(slow.chat(**body) for body in bodies))
    for chunks, whole in zip(streams, wholes, strict=True):
        for choice in whole.json()["choices"]:
            message = choice["message"]
            assert joined(chunks, "content", choice["index"]) == message["content"]
            assert joined(chunks, "reasoning_content", choice["index"]) == (
                message["reasoning_content"] or ""
            )
    assert taken[True] > 100


async def test_a_worker_that_dies_in_the_middle_is_replaced_without_a_gap(slow, taken):
    for decode in slow.decodes:
        decode.deaths, decode.fail_after = 1, 30
    chunks = await slow.stream()
    assert joined(chunks, "reasoning_content") == THOUGHT
    assert joined(chunks, "content") == ANSWER
    assert taken[True] > 30
    assert {len(submit.output_token_ids) for decode in slow.decodes for submit in decode.submits} >= {0, 30}
