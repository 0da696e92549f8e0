"""LiteLLM: its openai provider whole and streamed, calls, rebuilt streams, structured output, errors."""

import json
from collections.abc import Iterator

import litellm
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

checklist = Checklist()
holds, suite = checklist.holds, checklist.suite
SERVED = {
    "model": f"openai/{MODEL}",
    "api_base": f"{suite.url}/v1",
    "api_key": "any",
    "temperature": 0,
    "max_retries": 0,
    "num_retries": 0,
    "timeout": 120,
}
ASK = SERVED | {"messages": [{"role": "user", "content": QUESTION}]}
CALL = SERVED | {
    "messages": [{"role": "user", "content": WEATHER}],
    "tools": [GET_WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
}


@holds("answer")
def answer():
    response = litellm.completion(**ASK)
    [choice] = response.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert response.id.startswith("chatcmpl-")
    usage = response.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > usage.prompt_tokens > 0


@holds("stream")
def stream():
    chunks = list(litellm.completion(**ASK, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert len({chunk.id for chunk in chunks}) == 1
    usage = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert usage[-1].total_tokens == litellm.completion(**ASK).usage.total_tokens
    rebuilt = litellm.stream_chunk_builder(chunks)
    assert rebuilt.choices[0].message.content == ANSWER
    assert rebuilt.choices[0].finish_reason == "stop"


@holds("reasoning")
def reasoning():
    whole = litellm.completion(**ASK).choices[0].message.reasoning_content
    chunks = list(litellm.completion(**ASK, stream=True))
    streamed = [getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks]
    assert "".join(streamed) == whole != ""


@holds("call")
def call():
    [choice] = litellm.completion(**CALL).choices
    [made] = choice.message.tool_calls
    assert (made.id, made.function.name) == ("functions.get_weather:0", "get_weather")
    assert json.loads(made.function.arguments) == {"city": "Paris"}
    assert choice.finish_reason == "tool_calls"


@holds("streamed call")
def streamed_call():
    asked = SERVED | {
        "messages": [{"role": "user", "content": NOTE}],
        "tools": [WRITE_NOTE],
        "tool_choice": {"type": "function", "function": {"name": "write_note"}},
    }
    chunks = list(litellm.completion(**asked, stream=True))
    deltas = [each for chunk in chunks for each in chunk.choices[0].delta.tool_calls or []]
    assert len(deltas) >= 6
    whole = litellm.completion(**asked).choices[0].message.tool_calls[0]
    assert "".join(delta.function.arguments for delta in deltas) == whole.function.arguments
    [made] = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls
    assert (made.id, made.function.name, made.function.arguments) == (
        whole.id,
        whole.function.name,
        whole.function.arguments,
    )


@holds("two calls")
def two_calls():
    asked = CALL | {"messages": [{"role": "user", "content": TWO_WEATHERS}], "tool_choice": "auto"}
    rebuilt = litellm.stream_chunk_builder(list(litellm.completion(**asked, stream=True)))
    for response in (litellm.completion(**asked), rebuilt):
        made = response.choices[0].message.tool_calls
        assert [(each.id, json.loads(each.function.arguments)) for each in made] == TWO_CALLS


@holds("loop")
def loop():
    asked = SERVED | {"tools": [GET_WEATHER]}
    first = litellm.completion(**asked, messages=CALL["messages"]).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": WEATHER_RESULT}
    last = litellm.completion(**asked, messages=[*CALL["messages"], first, result]).choices[0]
    assert last.finish_reason == "stop"
    assert "22" in last.message.content


@holds("structured")
def structured():
    asked = SERVED | {"messages": [{"role": "user", "content": PLACES}]}
    content = litellm.completion(**asked, response_format=Place).choices[0].message.content
    Place.model_validate_json(content)


@holds("400")
def bad_request():
    for streamed in (False, True):
        error = raised(
            litellm.BadRequestError,
            lambda streamed=streamed: list(litellm.completion(**ASK | {"top_p": 9}, stream=streamed)),
        )
        assert error.status_code == 400
        assert "top_p" in error.message


@holds("429")
def overloaded():
    asked = ASK | {"api_base": f"{suite.busy_url}/v1"}
    for streamed in (False, True):
        error = raised(
            litellm.RateLimitError,
            lambda streamed=streamed: list(litellm.completion(**asked, stream=streamed)),
        )
        assert error.status_code == 429
        assert float(error.response.headers["retry-after"]) >= 1


@checklist.streams
def pieces() -> Iterator[str]:
    chunks = litellm.completion(**ASK, max_tokens=3000, stream=True, extra_body=ENDLESS)
    try:
        for chunk in chunks:
            delta = chunk.choices[0].delta
            yield delta.content or getattr(delta, "reasoning_content", None) or ""
    finally:
        chunks.close()


checklist.run()
