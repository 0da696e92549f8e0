"""smolagents: OpenAIModel whole and streamed, required calls, an agent, structured output, errors."""

import gc
import json
from collections.abc import Iterator

import openai
from checklist import (
    ANSWER,
    ENDLESS,
    MODEL,
    NOTE,
    PLACES,
    QUESTION,
    TEXT,
    WEATHER,
    WEATHER_RESULT,
    Checklist,
    raised,
)
from smolagents import LogLevel, OpenAIModel, Tool, ToolCallingAgent, tool
from smolagents.models import agglomerate_stream_deltas

checklist = Checklist()
holds, suite = checklist.holds, checklist.suite
OPTIONS = {
    "model_id": MODEL,
    "api_key": "any",
    "client_kwargs": {"max_retries": 0, "timeout": 120},
    "retry": False,
    "temperature": 0,
}
model = OpenAIModel(api_base=f"{suite.url}/v1", **OPTIONS)
busy = OpenAIModel(api_base=f"{suite.busy_url}/v1", **OPTIONS)
PLACE = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}


def said(text: str) -> list[dict]:
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]


@tool
def get_weather(city: str) -> str:
    """Get the current weather of a city

    Args:
        city: The name of the city
    """
    return WEATHER_RESULT


class WriteNote(Tool):
    name = "write_note"
    description = "Write a note"
    inputs = {"text": TEXT | {"description": "The note"}}  # noqa: RUF012 - its base class wants a dict
    output_type = "string"

    def forward(self, text: str) -> str:
        return text


@holds("answer")
def answer():
    message = model.generate(said(QUESTION))
    assert message.content == ANSWER
    assert message.raw.id.startswith("chatcmpl-")
    assert message.raw.choices[0].finish_reason == "stop"
    assert message.token_usage.total_tokens == message.raw.usage.total_tokens > 0


@holds("stream")
def stream():
    deltas = list(model.generate_stream(said(QUESTION)))
    assert "".join(delta.content or "" for delta in deltas) == ANSWER
    assert agglomerate_stream_deltas(deltas).token_usage == model.generate(said(QUESTION)).token_usage


@holds("call")
def call():
    message = model.generate(said(WEATHER), tools_to_call_from=[get_weather])
    [made] = message.tool_calls
    assert (made.id, made.function.name) == ("functions.get_weather:0", "get_weather")
    assert json.loads(made.function.arguments) == {"city": "Paris"}
    assert message.raw.choices[0].finish_reason == "tool_calls"


@holds("streamed call")
def streamed_call():
    deltas = list(model.generate_stream(said(NOTE), tools_to_call_from=[WriteNote()]))
    assert sum(bool(delta.tool_calls) for delta in deltas) >= 6
    [made] = agglomerate_stream_deltas(deltas).tool_calls
    whole = model.generate(said(NOTE), tools_to_call_from=[WriteNote()]).tool_calls[0]
    assert (made.id, made.function.name) == (whole.id, whole.function.name)
    assert made.function.arguments == whole.function.arguments


def steps_of(stream_outputs: bool) -> list:
    """The steps of an agent that may take two.

    Its tool choice is `required`, and its long prompt is nothing that kimi-nano has learned: it is open what
    is called, but every turn must be a call that parses and runs.
    """
    agent = ToolCallingAgent(
        [get_weather], model, stream_outputs=stream_outputs, max_steps=2, verbosity_level=LogLevel.OFF
    )
    agent.run(WEATHER)
    return [step for step in agent.memory.steps if hasattr(step, "tool_calls")]


@holds("loop")
def loop():
    steps = steps_of(stream_outputs=False)
    assert steps
    for step in steps:
        assert step.error is None, step.error
        assert step.tool_calls


@holds("streamed loop")
def streamed_loop():
    steps = steps_of(stream_outputs=True)
    assert steps
    for step in steps:
        assert step.error is None, step.error
        assert step.tool_calls


@holds("structured")
def structured():
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE, "strict": True}}
    place = json.loads(model.generate(said(PLACES), response_format=wanted).content)
    assert (sorted(place), type(place["name"]), type(place["people"])) == (["name", "people"], str, int)


@holds("400")
def bad_request():
    for ask in (model.generate, lambda *given, **named: list(model.generate_stream(*given, **named))):
        error = raised(openai.BadRequestError, lambda ask=ask: ask(said(QUESTION), top_p=9))
        assert (error.status_code, error.param) == (400, "top_p")
        assert error.request_id


@holds("429")
def overloaded():
    for ask in (busy.generate, lambda messages: list(busy.generate_stream(messages))):
        error = raised(openai.RateLimitError, lambda ask=ask: ask(said(QUESTION)))
        assert (error.status_code, error.code) == (429, "overloaded")
        assert float(error.response.headers["retry-after"]) >= 1


@checklist.streams
def pieces() -> Iterator[str]:
    # Its deltas leave out reasoning_content, so these answer at once.
    endless = ENDLESS | {"thinking": {"type": "disabled"}}
    try:
        for delta in model.generate_stream(said(QUESTION), max_tokens=3000, extra_body=endless):
            yield delta.content or ""
    finally:
        # A generator that is left drops OpenAI's stream without closing it, and that is part of a cycle: its
        # connection stays open until the next collection.
        gc.collect()


checklist.run()
