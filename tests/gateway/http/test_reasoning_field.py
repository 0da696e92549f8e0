"""The name that reasoning has in answers."""

from __future__ import annotations

from tests.gateway.suite import joined, open_suite


async def test_by_default_it_is_reasoning_content_alone(suite):
    """A guard."""
    message = (await suite.chat()).json()["choices"][0]["message"]
    assert message["reasoning_content"] == "Thinking."
    assert "reasoning" not in message
    chunks = await suite.stream()
    assert (joined(chunks, "reasoning_content"), joined(chunks, "reasoning")) == ("Thinking.", "")


async def test_a_setting_makes_it_reasoning_streamed_or_not():
    async with open_suite(reasoning_field="reasoning") as suite:
        message = (await suite.chat()).json()["choices"][0]["message"]
        assert (message["reasoning"], message["content"]) == ("Thinking.", "Hello!")
        assert "reasoning_content" not in message
        for body in ({}, {"logprobs": True}, {"stream_options": {"continuous_usage_stats": True}}):
            chunks = await suite.stream(**body)
            assert (joined(chunks, "reasoning"), joined(chunks, "reasoning_content")) == ("Thinking.", "")
            assert joined(chunks, "content") == "Hello!"
        instant = (await suite.chat(thinking={"type": "disabled"})).json()["choices"][0]["message"]
        assert instant["reasoning"] is None
