"""OpenAI's client for Python: whole answers, the stream helper, parse, typed errors, cancelling."""

import json
import time
from collections.abc import Iterator

import openai
from checklist import (
    ANSWER,
    ENDLESS,
    GET_WEATHER,
    MODEL,
    NOTE,
    PLACES,
    QUESTION,
    TWO_CALLS,
    TWO_WEATHERS,
    WEATHER,
    WEATHER_RESULT,
    WRITE_NOTE,
    Checklist,
    Place,
    raised,
)
from pydantic import BaseModel

checklist = Checklist()
holds, suite = checklist.holds, checklist.suite
client = openai.OpenAI(base_url=f"{suite.url}/v1", api_key="any", max_retries=0, timeout=120)
busy = openai.OpenAI(base_url=f"{suite.busy_url}/v1", api_key="any", max_retries=0, timeout=120)
chat = client.chat.completions
ASK = {"model": MODEL, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
CALL = {
    "model": MODEL,
    "temperature": 0,
    "messages": [{"role": "user", "content": WEATHER}],
    "tools": [GET_WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
}


@holds("answer")
def answer():
    completion = chat.create(**ASK)
    [choice] = completion.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        ANSWER,
        "stop",
    )
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.model == MODEL
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > usage.prompt_tokens > 0


@holds("stream")
def stream():
    usage = chat.create(**ASK).usage
    chunks = list(chat.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    *pieces, last = chunks
    assert (last.choices, last.usage.total_tokens) == ([], usage.total_tokens)
    assert all(chunk.usage is None for chunk in pieces)
    assert pieces[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in pieces if chunk.choices[0].finish_reason] == ["stop"]


@holds("reasoning")
def reasoning():
    whole = chat.create(**ASK).choices[0].message.reasoning_content
    deltas = [chunk.choices[0].delta for chunk in chat.create(**ASK, stream=True)]
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    assert "".join(thoughts) == whole != ""
    assert not any(thought and delta.content for thought, delta in zip(thoughts, deltas, strict=True))


@holds("call")
def call():
    [choice] = chat.create(**CALL).choices
    [made] = choice.message.tool_calls
    assert (made.id, made.type, made.function.name) == ("functions.get_weather:0", "function", "get_weather")
    assert json.loads(made.function.arguments) == {"city": "Paris"}
    assert choice.finish_reason == "tool_calls"


@holds("streamed call")
def streamed_call():
    asked = CALL | {
        "messages": [{"role": "user", "content": NOTE}],
        "tools": [WRITE_NOTE],
        "tool_choice": {"type": "function", "function": {"name": "write_note"}},
    }
    whole = chat.create(**asked).choices[0].message.tool_calls[0].function
    chunks = list(chat.create(**asked, stream=True))
    deltas = [each for chunk in chunks for each in chunk.choices[0].delta.tool_calls or []]
    first, *later = deltas
    assert (first.index, first.id, first.type) == (0, "functions.write_note:0", "function")
    assert (first.function.name, first.function.arguments) == ("write_note", "")
    assert all(
        (each.index, each.id, each.type, each.function.name) == (0, None, None, None) for each in later
    )
    assert "".join(each.function.arguments for each in deltas) == whole.arguments
    assert len(later) >= 5
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@holds("call events")
def call_events():
    with chat.stream(**CALL) as opened:
        events = list(opened)
        message = opened.get_final_completion().choices[0].message
    pieces = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    [done] = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert (done.name, done.index, json.loads(done.arguments)) == ("get_weather", 0, {"city": "Paris"})
    assert "".join(piece.arguments_delta for piece in pieces) == done.arguments
    assert message.tool_calls[0].function.arguments == done.arguments
    with chat.stream(**ASK) as opened:
        events = list(opened)
    assert "".join(event.delta for event in events if event.type == "content.delta") == ANSWER
    assert [event.content for event in events if event.type == "content.done"] == [ANSWER]


@holds("two calls")
def two_calls():
    asked = CALL | {"messages": [{"role": "user", "content": TWO_WEATHERS}], "tool_choice": "auto"}
    with chat.stream(**asked) as opened:
        events = [event for event in opened if event.type.startswith("tool_calls.")]
        made = opened.get_final_completion().choices[0].message.tool_calls
    assert [(each.id, json.loads(each.function.arguments)) for each in made] == TWO_CALLS
    done = [event for event in events if event.type.endswith(".done")]
    assert [(event.index, event.arguments) for event in done] == [
        (index, each.function.arguments) for index, each in enumerate(made)
    ]
    pieces_of = [event.index for event in events if event.type.endswith(".delta")]
    assert pieces_of == sorted(pieces_of)


@holds("loop")
def loop():
    asked = {key: CALL[key] for key in ("model", "temperature", "tools")}
    first = chat.create(**asked, messages=CALL["messages"]).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": WEATHER_RESULT}
    last = chat.create(**asked, messages=[*CALL["messages"], first, result]).choices[0]
    assert last.finish_reason == "stop"
    assert not last.message.tool_calls
    assert "22" in last.message.content


@holds("structured")
def structured():
    completion = chat.parse(
        model=MODEL, temperature=0, messages=[{"role": "user", "content": PLACES}], response_format=Place
    )
    message = completion.choices[0].message
    assert isinstance(message.parsed, Place)
    assert message.parsed == Place.model_validate_json(message.content)
    parsed = chat.parse(**CALL | {"tools": [openai.pydantic_function_tool(GetWeather, name="get_weather")]})
    assert parsed.choices[0].message.tool_calls[0].function.parsed_arguments == GetWeather(city="Paris")


class GetWeather(BaseModel):
    """Get the current weather of a city"""

    city: str


@holds("streamed structured")
def streamed_structured():
    asked = {"model": MODEL, "temperature": 0, "messages": [{"role": "user", "content": PLACES}]}
    whole = chat.parse(**asked, response_format=Place).choices[0].message.parsed
    with chat.stream(**asked, response_format=Place) as opened:
        [done] = [event for event in opened if event.type == "content.done"]
    assert done.parsed == whole


@holds("400")
def bad_request():
    error = raised(openai.BadRequestError, lambda: chat.create(**ASK | {"temperature": 9}))
    assert (error.status_code, error.param, error.type) == (400, "temperature", "invalid_request_error")
    assert error.request_id
    raised(openai.BadRequestError, lambda: list(chat.create(**ASK | {"temperature": 9}, stream=True)))
    missing = raised(openai.NotFoundError, lambda: chat.create(**ASK | {"model": "nobody"}))
    assert missing.code == "model_not_found"


@holds("429")
def overloaded():
    for streamed in (False, True):
        error = raised(
            openai.RateLimitError,
            lambda streamed=streamed: busy.chat.completions.create(**ASK, stream=streamed),
        )
        assert (error.status_code, error.code) == (429, "overloaded")
        assert float(error.response.headers["retry-after"]) >= 1


@holds("retry")
def retry():
    patient = busy.with_options(max_retries=1)
    started = time.monotonic()
    raised(openai.RateLimitError, lambda: patient.chat.completions.create(**ASK))
    waited = time.monotonic() - started
    assert 1 <= waited < 5, waited


@checklist.streams
def pieces() -> Iterator[str]:
    with chat.create(**ASK, max_tokens=3000, stream=True, extra_body=ENDLESS) as chunks:
        for chunk in chunks:
            for choice in chunk.choices:
                yield choice.delta.content or getattr(choice.delta, "reasoning_content", None) or ""


checklist.run()
