"""LangChain's client through the real suite; calls are forced, because the embedded weights are random."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Annotated, Literal

import jsonschema
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import Field

from tests.integration.test_constrained import PLACE
from tests.support.stack import Stack

QUESTION = HumanMessage("What's the weather in Beijing?")


@tool
def get_weather(
    location: Annotated[str, Field(max_length=20)], unit: Literal["celsius", "fahrenheit"] = "celsius"
) -> str:
    """The weather now."""
    return f"22 degrees {unit} and sunny in {location}"


@pytest.fixture
def model(suite: Stack) -> ChatOpenAI:
    return ChatOpenAI(
        model="kimi-nano",
        base_url=f"{suite.base_url}/v1",
        api_key="any",
        max_retries=0,
        timeout=60,
        max_tokens=160,
        seed=11,
    )


def test_a_call_is_run_and_its_result_gets_a_final_answer(model):
    asked = model.bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False)
    answer = asked.invoke([QUESTION])
    [call] = answer.tool_calls
    assert (call["name"], call["id"]) == ("get_weather", "functions.get_weather:0")
    assert not answer.invalid_tool_calls
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    result = get_weather.invoke(call)
    assert call["args"]["location"] in result.content
    told = model.bind_tools([get_weather], tool_choice="none", extra_body={"regex": "It is (warm|cold)[.]"})
    final = told.invoke([QUESTION, answer, result])
    assert final.content in ("It is warm.", "It is cold.")
    assert (final.tool_calls, final.response_metadata["finish_reason"]) == ([], "stop")


def test_a_streams_chunks_add_up_to_the_calls_that_come_whole(model):
    asked = model.bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False)
    whole = asked.invoke([QUESTION])
    total = reduce(add, asked.stream([QUESTION]))
    assert total.tool_calls == whole.tool_calls
    assert total.tool_calls
    assert not total.invalid_tool_calls
    assert total.content == whole.content
    assert total.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"]


def test_structured_output_is_of_the_schema(model):
    held = model.with_structured_output({"title": "place", **PLACE}, method="json_schema")
    jsonschema.validate(held.invoke("Where are you?"), PLACE)
