"""What a benchmark asks: lengths, prompts, conversations of agents."""

from __future__ import annotations

import io
import json
import statistics
from base64 import b64decode

import numpy
import pytest
from PIL import Image

from services.cli.bench.workload.agent import agent_sessions, plan_of
from services.cli.bench.workload.ask import Answer
from services.cli.bench.workload.lengths import LengthDraws
from services.cli.bench.workload.prompts import TextMaker, image_url, random_sessions
from services.cli.bench.workload.scenario import AGENT, COOKBOOK, SCENARIOS, Scenario

# Tokens of all prompts and all answers that SGLang's cookbook prints for its runs.
PUBLISHED = {
    "chat-1": (6101, 4220),
    "chat-16": (39668, 40805),
    "chat-100": (249831, 252662),
    "reasoning-1": (6101, 44462),
    "reasoning-16": (39668, 318306),
    "summary-1": (41941, 4220),
    "summary-16": (300020, 41669),
    "summary-64": (1273893, 170000),
}
WORDS = TextMaker(1.0)


def asks(scenario, seed=1, salt="run", texts=None):
    return [next(session.turns()) for session in random_sessions(scenario, seed, salt, texts)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_scenario_has_the_very_lengths_of_the_cookbook_s_run(name):
    made = asks(COOKBOOK[name])
    assert (sum(ask.input_tokens for ask in made), sum(ask.max_tokens for ask in made)) == PUBLISHED[name]


def test_the_nine_scenarios_have_the_cookbook_s_concurrency():
    loads = [(each.input_tokens, each.output_tokens, each.concurrency) for each in COOKBOOK.values()]
    assert loads == [
        (1000, 1000, 1), (1000, 1000, 16), (1000, 1000, 100), (1000, 8000, 1), (1000, 8000, 16),
        (1000, 8000, 64), (8000, 1000, 1), (8000, 1000, 16), (8000, 1000, 64),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("most", "ratio"), [(1, 0.0), (2, 0.0), (50, 0.0), (400, 0.5), (65536, 0.0), (7, 1.0)]
)
def test_lengths_are_those_that_numpy_draws(most, ratio):
    legacy = numpy.random.RandomState(42)
    expected = legacy.randint(max(int(most * ratio), 1), most + 1, size=300)
    assert LengthDraws(42).lengths(most, ratio, 300) == expected.tolist()


def test_a_scale_applies_to_lengths_and_to_nothing_else():
    small = SCENARIOS["reasoning-64"].scaled(0.05)
    assert (small.input_tokens, small.output_tokens) == (50, 400)
    assert (small.requests, small.concurrency) == (320, 64)
    assert SCENARIOS["chat-1"].scaled(0.0001).input_tokens == 1


def test_prompts_have_their_lengths_and_begin_differently():
    made = asks(Scenario("x", 40, 10, 200))
    assert all(len(ask.token_ids) == ask.input_tokens for ask in made)
    begins = {tuple(ask.token_ids[:8]) for ask in made if ask.input_tokens >= 8}
    assert len(begins) == sum(ask.input_tokens >= 8 for ask in made)


def test_another_run_of_the_same_seed_has_the_same_lengths_and_other_prompts():
    scenario = Scenario("x", 40, 10, 5, least_ratio=0.5)
    one, again, other = asks(scenario), asks(scenario, salt="next"), asks(scenario, seed=2)
    lengths = [[(ask.input_tokens, ask.max_tokens) for ask in made] for made in (one, again, other)]
    assert lengths[0] == lengths[1] != lengths[2]
    assert all(a.token_ids[:4] != b.token_ids[:4] for a, b in zip(one, again, strict=True))


def test_a_chat_has_as_many_words_as_make_up_its_tokens():
    (ask,) = asks(Scenario("x", 100, 10, 1, least_ratio=1.0), texts=TextMaker(2.0, overhead=20.0))
    assert len(ask.messages[0]["content"].split()) == 40


def test_images_come_before_the_text_and_no_two_are_alike():
    made = asks(Scenario("x", 5, 10, 2, images=2, image_pixels=50), texts=WORDS)
    urls = [part["image_url"]["url"] for ask in made for part in ask.messages[0]["content"][:2]]
    assert [part["type"] for part in made[0].messages[0]["content"]] == ["image_url", "image_url", "text"]
    assert len(set(urls)) == 4


@pytest.mark.parametrize("pixels", [1, 13, 14, 100])
def test_an_image_is_a_png_of_its_size(pixels):
    data = b64decode(image_url(pixels, "seed").removeprefix("data:image/png;base64,"))
    image = Image.open(io.BytesIO(data))
    image.load()
    assert (image.format, image.size) == ("PNG", (pixels, pixels))


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_agents_have_prompts_of_a_median_of_64k_tokens_nine_tenths_of_them_seen_before(scale):
    scenario = SCENARIOS[AGENT].scaled(scale)
    plans = [plan_of(scenario, number, 1) for number in range(scenario.requests)]
    lengths = [length for plan in plans for length in plan.prompts()]
    assert statistics.median(lengths) == pytest.approx(64_000 * scale, rel=0.03)
    new = plans[0].shared + sum(plan.new_tokens() for plan in plans)
    assert 1 - new / sum(lengths) == pytest.approx(0.9, abs=0.01)


def rounds(session, answer):
    """All asks of a session whose every answer is the same."""
    turns = session.turns()
    made = [next(turns)]
    while True:
        try:
            made.append(turns.send(answer))
        except StopIteration:
            return made


def agents(**fields):
    scenario = Scenario("agent", 1000, 10, 2, rounds=4, **fields)
    return agent_sessions(scenario, 1, "run", WORDS)


def test_each_round_s_prompt_continues_the_last_one_with_what_the_model_answered():
    first, second, third, fourth = rounds(agents()[0], Answer(content="hm", reasoning="so"))
    assert [ask.max_tokens for ask in (first, second, third, fourth)] == [10] * 4
    assert second.messages[: len(first.messages)] == first.messages
    assert fourth.messages[: len(third.messages)] == third.messages
    turn, result = second.messages[len(first.messages) :]
    assert (turn["role"], turn["content"], turn["reasoning_content"]) == ("assistant", "hm", "so")
    assert (result["role"], result["tool_call_id"]) == ("tool", turn["tool_calls"][0]["id"])
    assert json.loads(turn["tool_calls"][0]["function"]["arguments"])
    assert {tool["function"]["name"] for tool in first.tools} == {"read_file", "run_command", "search"}


def test_the_model_s_own_calls_are_answered_and_unfinished_ones_replaced():
    calls = [
        {"id": f"c{index}", "type": "function", "function": {"name": "search", "arguments": "{}"}}
        for index in range(2)
    ]
    _, second, *_ = rounds(agents()[0], Answer(calls=calls, finish="tool_calls"))
    turn, *results = second.messages[2:]
    assert turn["tool_calls"] == calls
    assert [result["tool_call_id"] for result in results] == ["c0", "c1"]
    _, second, *_ = rounds(agents()[0], Answer(calls=calls[:1], finish="length"))
    assert second.messages[2]["tool_calls"] != calls[:1]


def test_agents_share_what_is_before_their_tasks():
    one, other = (next(agent.turns()) for agent in agents())
    assert one.messages[0] == other.messages[0]
    assert one.messages[1] != other.messages[1]
