"""Kimi K2.5, K2.6 and K2.7-Code through REST: which past reasoning is in the prompt, and what is refused."""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.families.kimi.chat.golden import read_vectors
from tests.families.kimi.chat.preserved import CASES, Case
from tests.gateway.suite import chat_body, open_suite
from tests.gateway.tokenizer_alone import open_tokenizer

KWARGS = "chat_template_kwargs"
PAST = next(case for case in CASES if case.name == "an answer with reasoning")
PRESERVE = [
    {KWARGS: {"preserve_thinking": True}},
    {"thinking": {"type": "enabled", "keep": "all"}},
    {"thinking": {"keep": "all"}},
    {"preserve_thinking": True},
]
INSTANT = [
    {"thinking": {"type": "disabled"}},
    {KWARGS: {"thinking": False}},
    {KWARGS: {"enable_thinking": False}},
    {"enable_thinking": False},
    {"reasoning_effort": "none"},
    {"reasoning": {"enabled": False}},
]


@pytest_asyncio.fixture
async def doors(nano_dir):
    """A gateway of the embedded tokenizer for each profile."""
    async with (
        open_tokenizer(nano_dir, model_profile="k2.5") as k25,
        open_tokenizer(nano_dir, model_profile="k2.6") as k26,
        open_tokenizer(nano_dir, model_profile="k2.7-code") as k27,
    ):
        yield {"k2.5": k25, "k2.6": k26, "k2.7-code": k27}


async def prompt(door, messages, **body):
    """The rendered prompt, or where it is refused the field and the code."""
    answer = await door.http.post("/tokenize", json={"messages": list(messages), **body})
    if answer.status_code == 200:
        return answer.json()["text"]
    assert answer.status_code == 400
    return answer.json()["error"]["param"], answer.json()["error"]["code"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_profile_decides_which_past_reasoning_is_in_the_prompt(doors, case: Case):
    for name in case.profiles:
        always = name == "k2.7-code"
        assert await prompt(doors[name], case.messages) == (case.kept if always else case.dropped), name
        if name != "k2.5":
            for switch in PRESERVE:
                assert await prompt(doors[name], case.messages, **switch) == case.kept, (name, switch)


async def test_the_derived_conversations_of_k26_give_their_prompts(doors, shared_dir):
    vectors = read_vectors(shared_dir, "k26_derived.jsonl")
    for vector in vectors:
        messages = [
            {**message, "tool_calls": [_call(call) for call in message["tool_calls"]]}
            if "tool_calls" in message
            else message
            for message in vector["messages"]
        ]
        off = await prompt(doors["k2.6"], messages)
        on = await prompt(doors["k2.6"], messages, chat_template_kwargs={"preserve_thinking": True})
        assert (off, on) == (vector["preserve_off"], vector["preserve_on"]), vector["name"]
        assert await prompt(doors["k2.7-code"], messages) == on


def _call(call):
    name = call["id"].removeprefix("functions.").partition(":")[0]
    return {"id": call["id"], "type": "function", "function": {"name": name, "arguments": call["a"]}}


async def test_k26_without_reasoning_is_k25_without_reasoning(doors):
    for switch in INSTANT:
        for case in CASES:
            if "k2.5" in case.profiles and "k2.6" in case.profiles:
                shown = await prompt(doors["k2.6"], case.messages, **switch)
                assert shown == await prompt(doors["k2.5"], case.messages, **switch)
                assert shown.endswith("<think></think>")
                assert "r2" not in shown


@pytest.mark.parametrize("switch", PRESERVE, ids=str)
async def test_past_reasoning_is_not_kept_for_a_model_that_does_not_think(doors, switch):
    """No source says what the published template would print."""
    for off in ({"enable_thinking": False}, {"reasoning_effort": "none"}):
        param, code = await prompt(doors["k2.6"], PAST.messages, **switch, **off)
        assert (param.split(".")[-1] in ("preserve_thinking", "keep"), code) == (True, "unsupported_value")


@pytest.mark.parametrize("switch", INSTANT, ids=str)
async def test_k27_always_thinks(doors, switch):
    param, code = await prompt(doors["k2.7-code"], PAST.messages, **switch)
    assert code == "unsupported_value"
    assert param.split(".")[0] in switch


async def test_k27_always_keeps_past_reasoning(doors):
    door = doors["k2.7-code"]
    for switch in ({KWARGS: {"preserve_thinking": False}}, {"preserve_thinking": False}):
        assert (await prompt(door, PAST.messages, **switch))[1] == "unsupported_value"
    for switch in ({KWARGS: {"preserve_thinking": None}}, {"thinking": {"type": "enabled", "keep": None}}):
        assert await prompt(door, PAST.messages, **switch) == PAST.kept


async def test_switches_that_contradict_each_other_are_refused(doors):
    contradiction = {"preserve_thinking": False, "thinking": {"keep": "all"}}
    assert await prompt(doors["k2.6"], PAST.messages, **contradiction) == ("preserve_thinking", None)


async def test_the_answer_to_a_thinking_switch_is_worded_as_by_the_vendor():
    async with open_suite(model_profile="k2.7-code") as suite:
        answer = await suite.chat(thinking={"type": "disabled"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        400,
        "invalid thinking: only type=enabled is allowed for this model",
    )


@pytest.mark.parametrize(
    ("profile", "body", "sampling"),
    [
        ("k2.6", {}, (1.0, 0.95)),
        ("k2.6", {"enable_thinking": False}, (0.6, 0.95)),
        ("k2.7-code", {}, (1.0, 0.95)),
    ],
)
async def test_absent_sampling_is_what_the_profile_recommends(profile, body, sampling):
    async with open_suite(model_profile=profile) as suite:
        assert (await suite.chat(**body)).status_code == 200
        sent = suite.decode.submits[-1].sampling
    assert (sent.temperature, sent.top_p) == pytest.approx(sampling)


async def test_the_profile_is_shown_and_an_unknown_one_ends_the_start(nano_dir):
    async with open_tokenizer(nano_dir, model_profile="k2.6") as door:
        assert (await door.http.get("/model_info")).json()["model_profile"] == "k2.6"
    with pytest.raises(Exception, match=r"model_profile: 'k3' is not one of k2\.5, k2\.6, k2\.7-code"):
        async with open_tokenizer(nano_dir, model_profile="k3"):
            pass


async def test_the_prompt_of_a_chat_is_the_one_that_is_tokenized():
    async with open_suite(model_profile="k2.6") as suite:
        body = {"messages": list(PAST.messages), "thinking": {"type": "enabled", "keep": "all"}}
        assert (await suite.chat(**body)).status_code == 200
        ids = list(suite.decode.submits[-1].prompt_token_ids)
        assert suite.tokenizer.decode(ids) == PAST.kept
        assert ids == (await suite.http.post("/tokenize", json=chat_body(**body))).json()["tokens"]
