"""LangChain: ChatOpenAI whole and streamed, bound tools, an agent, structured output, typed errors."""

from collections.abc import Iterator
from functools import reduce
from operator import add

import openai
from checklist import (
    ANSWER,
    ENDLESS,
    MODEL,
    NOTE,
    PLACES,
    QUESTION,
    TWO_CALLS,
    TWO_WEATHERS,
    WEATHER,
    WEATHER_RESULT,
    Checklist,
    Note,
    Place,
    raised,
)
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

checklist = Checklist()
holds, suite = checklist.holds, checklist.suite
OPTIONS = {"model": MODEL, "api_key": "any", "temperature": 0, "max_retries": 0, "timeout": 120}
model = ChatOpenAI(base_url=f"{suite.url}/v1", **OPTIONS)
busy = ChatOpenAI(base_url=f"{suite.busy_url}/v1", **OPTIONS)


@tool
def get_weather(city: str) -> str:
    """Get the current weather of a city"""
    assert city == "Paris"
    return WEATHER_RESULT


@holds("answer")
def answer():
    message = model.invoke(QUESTION)
    assert message.content == ANSWER
    assert message.response_metadata["id"].startswith("chatcmpl-")
    assert message.response_metadata["finish_reason"] == "stop"
    usage = message.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > usage["input_tokens"] > 0


@holds("stream")
def stream():
    chunks = list(model.stream(QUESTION, stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == ANSWER
    total = reduce(add, chunks)
    assert total.usage_metadata == model.invoke(QUESTION).usage_metadata
    assert total.response_metadata["finish_reason"] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


@holds("call")
def call():
    message = model.bind_tools([get_weather], tool_choice="get_weather").invoke(WEATHER)
    [made] = message.tool_calls
    assert (made["name"], made["args"], made["id"]) == (
        "get_weather",
        {"city": "Paris"},
        "functions.get_weather:0",
    )
    assert not message.invalid_tool_calls
    assert message.response_metadata["finish_reason"] == "tool_calls"


@holds("streamed call")
def streamed_call():
    bound = model.bind_tools([Note], tool_choice="Note")
    chunks = list(bound.stream(NOTE))
    assert sum(bool(chunk.tool_call_chunks) for chunk in chunks) >= 6
    total = reduce(add, chunks)
    assert total.tool_calls == bound.invoke(NOTE).tool_calls
    assert not total.invalid_tool_calls
    assert total.response_metadata["finish_reason"] == "tool_calls"


@holds("two calls")
def two_calls():
    bound = model.bind_tools([get_weather])
    for message in (bound.invoke(TWO_WEATHERS), reduce(add, bound.stream(TWO_WEATHERS))):
        assert [(call["id"], call["args"]) for call in message.tool_calls] == TWO_CALLS


@holds("loop")
def loop():
    agent = create_agent(model, [get_weather])
    messages = agent.invoke({"messages": [("user", WEATHER)]})["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[2].tool_call_id == messages[1].tool_calls[0]["id"]
    assert "22" in messages[3].content


@holds("streamed loop")
def streamed_loop():
    agent = create_agent(model, [get_weather])
    pieces = [
        piece.content
        for piece, where in agent.stream({"messages": [("user", WEATHER)]}, stream_mode="messages")
        if where["langgraph_node"] == "model"
    ]
    assert "22" in "".join(pieces)


@holds("structured")
def structured():
    for method in ("json_schema", "function_calling"):
        place = model.with_structured_output(Place, method=method).invoke(PLACES)
        assert isinstance(place, Place), method


@holds("400")
def bad_request():
    for ask in (model.invoke, lambda *given, **named: list(model.stream(*given, **named))):
        error = raised(openai.BadRequestError, lambda ask=ask: ask(QUESTION, temperature=9))
        assert (error.status_code, error.param) == (400, "temperature")
        assert error.request_id


@holds("429")
def overloaded():
    for ask in (busy.invoke, lambda question: list(busy.stream(question))):
        error = raised(openai.RateLimitError, lambda ask=ask: ask(QUESTION))
        assert (error.status_code, error.code) == (429, "overloaded")
        assert float(error.response.headers["retry-after"]) >= 1


@checklist.streams
def pieces() -> Iterator[str]:
    # Its chunks leave out reasoning_content, so these answer at once.
    endless = ENDLESS | {"thinking": {"type": "disabled"}}
    for chunk in model.stream(QUESTION, max_tokens=3000, extra_body=endless):
        yield chunk.content


checklist.run()
