"""Switches within objects of a chat body: honoured, or refused by name."""

from __future__ import annotations

import pytest

from tests.gateway.suite import chat_body

KWARGS = "chat_template_kwargs"


def is_thinking(suite) -> bool:
    """Whether the last prompt leaves the reasoning open."""
    prompt = suite.tokenizer.decode(list(suite.decode.submits[-1].prompt_token_ids))
    assert prompt.endswith(("<think>", "<think></think>"))
    return prompt.endswith("<think>")


@pytest.mark.parametrize(
    "switch",
    [
        {KWARGS: {"enable_thinking": False}},
        {KWARGS: {"thinking": False}},
        {KWARGS: {"thinking": True, "enable_thinking": False}},
        {KWARGS: {"reasoning_effort": "none"}},
        {"enable_thinking": False},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "disabled", "budget_tokens": None}},
        {"reasoning": {"effort": "none"}},
        {"reasoning": {"enabled": False}},
        {"reasoning_effort": "none"},
        {"reasoning_effort": "high", "reasoning": {"effort": "none"}},
    ],
    ids=str,
)
async def test_every_switch_turns_thinking_off(suite, switch):
    """A guard for thinking, chat_template_kwargs.thinking and reasoning_effort, which did so before."""
    assert (await suite.chat(**switch)).status_code == 200
    assert not is_thinking(suite)


@pytest.mark.parametrize(
    "switch",
    [
        {},
        {"thinking": {}},
        {"thinking": {"type": None}},
        {"thinking": {"type": "enabled", "keep": None, "budget_tokens": None}},
        {KWARGS: {}},
        {KWARGS: {"enable_thinking": True, "preserve_thinking": False}},
        {KWARGS: {"thinking": None, "enable_thinking": None, "preserve_thinking": None, "anything": None}},
        {"enable_thinking": True, "preserve_thinking": False, "thinking_budget": None},
        {"reasoning": {}},
        {"reasoning": {"effort": "high", "enabled": True, "exclude": False, "max_tokens": None}},
        {"response_format": {"type": "text", "json_schema": None, "schema": None}},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"stream": True, "stream_options": {}},
    ],
    ids=str,
)
async def test_null_and_what_changes_nothing_is_taken(suite, switch):
    answer = await suite.chat(**switch)
    assert answer.status_code == 200, answer.text
    assert is_thinking(suite)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({KWARGS: {"preserve_thinking": True}}, f"{KWARGS}.preserve_thinking"),
        ({KWARGS: {"thinking_budget": 100}}, f"{KWARGS}.thinking_budget"),
        ({KWARGS: {"thinking": False, "custom": {}}}, f"{KWARGS}.custom"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "keep": "all"}}, "thinking.keep"),
        ({"thinking": {"keep": "all"}}, "thinking.keep"),
        ({"thinking_budget": 1024}, "thinking_budget"),
        ({"preserve_thinking": True}, "preserve_thinking"),
        ({"reasoning": {"max_tokens": 1024}}, "reasoning.max_tokens"),
        ({"reasoning": {"exclude": True}}, "reasoning.exclude"),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, "reasoning.summary"),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "object"}}},
            "response_format.schema",
        ),
        ({"response_format": {"type": "text", "grammar": "x"}}, "response_format.grammar"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {}, "mode": 1},
                }
            },
            "response_format.json_schema.mode",
        ),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"stream": True, "stream_options": {"include": ["usage"]}}, "stream_options.include"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "x", "max_pixels": 1}}],
                    }
                ]
            },
            "messages[0].content[0].image_url.max_pixels",
        ),
    ],
    ids=str,
)
async def test_what_is_not_offered_is_refused_by_name_at_every_depth(suite, body, param):
    answer = await suite.chat(**body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, "unsupported_value")
    assert not suite.decode.submits


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"thinking": {"type": "sometimes"}}, "thinking.type"),
        ({"thinking": {"type": True}}, "thinking.type"),
        ({"thinking": True}, "thinking"),
        ({"thinking": {"keep": "some"}}, "thinking.keep"),
        ({KWARGS: {"preserve_thinking": 0}}, f"{KWARGS}.preserve_thinking"),
        ({KWARGS: {"enable_thinking": "no"}}, f"{KWARGS}.enable_thinking"),
        ({KWARGS: {"reasoning_effort": "huge"}}, f"{KWARGS}.reasoning_effort"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": "high"}, "reasoning"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": 5}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": None, "schema": {}}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "a", "schema": {}}}},
            "response_format.json_schema",
        ),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ],
    ids=str,
)
async def test_a_wrong_value_is_refused_by_name(suite, body, param):
    answer = await suite.chat(**body)
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, None)


async def test_tokenizing_follows_the_same_switches(suite):
    async def text(**body):
        answer = await suite.http.post("/tokenize", json=chat_body(**body))
        return answer.json()["text"] if answer.status_code == 200 else answer.json()["error"]["param"]

    assert (await text(chat_template_kwargs={"enable_thinking": False})).endswith("</think>")
    assert (await text(thinking={"keep": "all"})) == "thinking.keep"


async def test_completions_read_response_format_and_stream_options_alike(suite):
    for body, param in (
        ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
        ({"stream": True, "stream_options": {"include": 1}}, "stream_options.include"),
    ):
        answer = await suite.http.post("/v1/completions", json={"prompt": "x", **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
