"""LlamaIndex: OpenAILike whole and streamed, tools, an agent, structured output, typed errors."""

import asyncio
import gc
from collections.abc import Iterator
from itertools import pairwise

import openai
from checklist import (
    ANSWER,
    ENDLESS,
    MODEL,
    NOTE,
    PLACES,
    QUESTION,
    WEATHER,
    WEATHER_RESULT,
    Checklist,
    Note,
    Place,
    raised,
)
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool, ToolMetadata
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

checklist = Checklist()
holds, suite = checklist.holds, checklist.suite
OPTIONS = {
    "model": MODEL,
    "api_key": "any",
    "temperature": 0,
    "max_retries": 0,
    "timeout": 120,
    "is_chat_model": True,
    "is_function_calling_model": True,
    "should_use_structured_outputs": True,
}
model = OpenAILike(api_base=f"{suite.url}/v1", **OPTIONS)
busy = OpenAILike(api_base=f"{suite.busy_url}/v1", **OPTIONS)
ASKED = [ChatMessage(role="user", content=QUESTION)]


class City(BaseModel):
    city: str


def weather_of(city: str) -> str:
    assert city == "Paris"
    return WEATHER_RESULT


get_weather = FunctionTool.from_defaults(
    weather_of,
    tool_metadata=ToolMetadata("Get the current weather of a city", name="get_weather", fn_schema=City),
)

write_note = FunctionTool.from_defaults(
    lambda text: text, tool_metadata=ToolMetadata("Write a note", name="write_note", fn_schema=Note)
)


@holds("answer")
def answer():
    response = model.chat(ASKED)
    assert response.message.content == ANSWER
    assert response.raw.id.startswith("chatcmpl-")
    assert response.raw.choices[0].finish_reason == "stop"
    counts = response.additional_kwargs
    assert (
        counts["total_tokens"]
        == counts["prompt_tokens"] + counts["completion_tokens"]
        > counts["prompt_tokens"]
    )


@holds("stream")
def stream():
    responses = list(model.stream_chat(ASKED, stream_options={"include_usage": True}))
    assert "".join(response.delta for response in responses) == ANSWER
    assert responses[-1].message.content == ANSWER
    assert responses[-1].additional_kwargs == model.chat(ASKED).additional_kwargs
    assert len({response.raw.id for response in responses}) == 1


@holds("reasoning")
def reasoning():
    [thought, _] = model.chat(ASKED).message.blocks
    streamed = [each.additional_kwargs.get("thinking_delta", "") for each in model.stream_chat(ASKED)]
    assert "".join(streamed) == thought.content != ""


@holds("call")
def call():
    response = model.chat_with_tools([get_weather], WEATHER, tool_choice="get_weather")
    [made] = model.get_tool_calls_from_response(response)
    assert (made.tool_id, made.tool_name, made.tool_kwargs) == (
        "functions.get_weather:0",
        "get_weather",
        {"city": "Paris"},
    )
    assert response.raw.choices[0].finish_reason == "tool_calls"


@holds("streamed call")
def streamed_call():
    asked = {"tools": [write_note], "user_msg": NOTE, "tool_choice": "write_note"}
    [whole] = model.get_tool_calls_from_response(model.chat_with_tools(**asked))
    # Each response has the arguments so far. The raw deltas do not stay as they came: it adds to the first.
    grown = []
    for response in model.stream_chat_with_tools(**asked):
        calls = [block for block in response.message.blocks if block.block_type == "tool_call"]
        grown += [call.tool_kwargs or "" for call in calls]
    assert len(set(grown)) >= 6
    assert all(later.startswith(earlier) for earlier, later in pairwise(grown))
    assert model.get_tool_calls_from_response(response) == [whole]
    assert whole.tool_id == "functions.write_note:0"


async def run_agent(streaming: bool) -> str:
    own = OpenAILike(api_base=f"{suite.url}/v1", **OPTIONS)  # its client belongs to one event loop
    agent = FunctionAgent(tools=[get_weather], llm=own, streaming=streaming, system_prompt=None)
    output = await agent.run(WEATHER)
    assert [call.tool_kwargs for call in output.tool_calls] == [{"city": "Paris"}]
    return output.response.content


@holds("loop")
def loop():
    assert "22" in asyncio.run(run_agent(streaming=False))


@holds("streamed loop")
def streamed_loop():
    assert "22" in asyncio.run(run_agent(streaming=True))


@holds("structured")
def structured():
    assert isinstance(model.structured_predict(Place, PromptTemplate(PLACES)), Place)
    by_call = OpenAILike(api_base=f"{suite.url}/v1", **OPTIONS | {"should_use_structured_outputs": False})
    assert isinstance(by_call.structured_predict(Place, PromptTemplate(PLACES)), Place)


@holds("streamed structured")
def streamed_structured():
    whole = model.structured_predict(Place, PromptTemplate(PLACES))
    *_, last = model.stream_structured_predict(Place, PromptTemplate(PLACES))
    assert Place.model_validate(last.model_dump()) == whole


@holds("400")
def bad_request():
    for ask in (model.chat, lambda *given, **named: list(model.stream_chat(*given, **named))):
        error = raised(openai.BadRequestError, lambda ask=ask: ask(ASKED, top_p=9))
        assert (error.status_code, error.param) == (400, "top_p")
        assert error.request_id


@holds("429")
def overloaded():
    for ask in (busy.chat, lambda asked: list(busy.stream_chat(asked))):
        error = raised(openai.RateLimitError, lambda ask=ask: ask(ASKED))
        assert (error.status_code, error.code) == (429, "overloaded")
        assert float(error.response.headers["retry-after"]) >= 1


@checklist.streams
def pieces() -> Iterator[str]:
    try:
        for response in model.stream_chat(ASKED, max_tokens=3000, extra_body=ENDLESS):
            yield response.delta or response.additional_kwargs.get("thinking_delta", "")
    finally:
        # A generator that is left drops OpenAI's stream without closing it, and that is part of a cycle: its
        # connection stays open until the next collection.
        gc.collect()


checklist.run()
