"""Pydantic AI: agents whole and streamed, tools, three kinds of structured output, typed errors."""

import asyncio
from collections.abc import Iterator

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
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError, ModelOverloadedError, ModelRequestRejectedError
from pydantic_ai.messages import (
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    ThinkingPart,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

checklist = Checklist()
holds, suite = checklist.holds, checklist.suite
GREEDY = {"temperature": 0}


def agent_of(url: str = suite.url, **options: object) -> Agent:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=120)
    model = OpenAIChatModel(MODEL, provider=OpenAICompatibleProvider("perigee", openai_client=client))
    return Agent(model, **{"model_settings": GREEDY, "retries": 0} | options)


def weather_agent() -> Agent:
    agent = agent_of()

    @agent.tool_plain(description="Get the current weather of a city")
    def get_weather(city: str) -> str:
        assert city in ("Paris", "Rome")
        return WEATHER_RESULT

    return agent


@holds("answer")
def answer():
    result = agent_of().run_sync(QUESTION)
    assert result.output == ANSWER
    response = result.all_messages()[-1]
    assert response.provider_response_id.startswith("chatcmpl-")
    assert response.finish_reason == "stop"
    assert response.usage.input_tokens > 0
    assert response.usage.output_tokens > 0


@holds("stream")
def stream():
    whole = agent_of().run_sync(QUESTION)

    async def read():
        async with agent_of().run_stream(QUESTION) as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        return pieces, result.response

    pieces, response = asyncio.run(read())
    assert "".join(pieces) == ANSWER
    assert response.usage == whole.all_messages()[-1].usage
    assert response.finish_reason == "stop"


@holds("reasoning")
def reasoning():
    def thought_of(parts):
        return "".join(part.content for part in parts if isinstance(part, ThinkingPart))

    async def read():
        async with agent_of().run_stream(QUESTION) as result:
            await result.get_output()
        return result.response.parts

    whole = thought_of(agent_of().run_sync(QUESTION).all_messages()[-1].parts)
    assert thought_of(asyncio.run(read())) == whole != ""


@holds("call")
def call():
    response = weather_agent().run_sync(WEATHER).all_messages()[1]
    [made] = [part for part in response.parts if isinstance(part, ToolCallPart)]
    assert (made.tool_name, made.args_as_dict(), made.tool_call_id) == (
        "get_weather",
        {"city": "Paris"},
        "functions.get_weather:0",
    )
    assert response.finish_reason == "tool_call"


async def events_of(agent: Agent, prompt: str) -> tuple[list, str]:
    events, output = [], ""
    async with agent.run_stream_events(prompt) as stream:
        async for event in stream:
            events.append(event)
            if event.event_kind == "agent_run_result":
                output = event.result.output
    return events, output


@holds("streamed call")
def streamed_call():
    kind = ToolOutput(Note, name="write_note")
    events, _ = asyncio.run(events_of(agent_of(output_type=kind), NOTE))
    [start] = [
        each.part
        for each in events
        if isinstance(each, PartStartEvent) and isinstance(each.part, ToolCallPart)
    ]
    deltas = [
        each.delta
        for each in events
        if isinstance(each, PartDeltaEvent) and isinstance(each.delta, ToolCallPartDelta)
    ]
    assert (start.tool_name, start.tool_call_id) == ("write_note", "functions.write_note:0")
    assert len(deltas) >= 5
    joined = (start.args or "") + "".join(delta.args_delta for delta in deltas)
    whole = agent_of(output_type=kind).run_sync(NOTE).all_messages()[1]
    assert [joined] == [part.args for part in whole.parts if isinstance(part, ToolCallPart)]


@holds("two calls")
def two_calls():
    events, _ = asyncio.run(events_of(weather_agent(), TWO_WEATHERS))
    ended = [each.part for each in events if isinstance(each, PartEndEvent)]
    made = [part for part in ended if isinstance(part, ToolCallPart)]
    assert [(part.tool_call_id, part.args_as_dict()) for part in made] == TWO_CALLS


@holds("loop")
def loop():
    result = weather_agent().run_sync(WEATHER)
    assert [message.kind for message in result.all_messages()] == ["request", "response"] * 2
    assert "22" in result.output


@holds("streamed loop")
def streamed_loop():
    _, output = asyncio.run(events_of(weather_agent(), WEATHER))
    assert "22" in output


@holds("structured")
def structured():
    for kind in (ToolOutput, NativeOutput):
        assert isinstance(agent_of(output_type=kind(Place)).run_sync(PLACES).output, Place), kind


@holds("streamed structured")
def streamed_structured():
    whole = agent_of(output_type=NativeOutput(Place)).run_sync(PLACES).output

    async def read():
        async with agent_of(output_type=NativeOutput(Place)).run_stream(PLACES) as result:
            return await result.get_output()

    assert asyncio.run(read()) == whole


@holds("400")
def bad_request():
    agent = agent_of(model_settings={"temperature": 9})
    error = raised(ModelHTTPError, lambda: agent.run_sync(QUESTION))
    assert (error.status_code, error.body["param"]) == (400, "temperature")
    assert isinstance(error, ModelRequestRejectedError)
    assert error.headers["x-request-id"]


@holds("429")
def overloaded():
    # Of 429s it tells a limit of the caller's (ModelRateLimitError) from load, by the code.
    error = raised(ModelOverloadedError, lambda: agent_of(suite.busy_url).run_sync(QUESTION))
    assert isinstance(error, ModelHTTPError)
    assert (error.status_code, error.provider_error_code) == (429, "overloaded")
    assert error.retry_after >= 1


@checklist.streams
def pieces() -> Iterator[str]:
    # stream_text leaves out reasoning, so these answer at once.
    settings = GREEDY | {"max_tokens": 3000, "extra_body": ENDLESS | {"thinking": {"type": "disabled"}}}
    with agent_of(model_settings=settings).run_stream_sync(QUESTION) as result:
        yield from result.stream_text(delta=True, debounce_by=None)


checklist.run()
