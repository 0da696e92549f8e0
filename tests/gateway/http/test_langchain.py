"""LangChain's client against the door."""

import httpx
import pytest
from langchain_openai import ChatOpenAI


@pytest.fixture
def model(suite):
    return ChatOpenAI(
        model="kimi",
        base_url=f"{suite.http.base_url}/v1",
        api_key="any",
        max_retries=0,
        http_async_client=httpx.AsyncClient(trust_env=False),
    )


async def test_a_question_is_answered_with_its_usage(suite, model):
    answer = await model.ainvoke([("system", "Be brief."), ("human", "Hi")])
    assert answer.content == "Hello!"
    assert answer.response_metadata["finish_reason"] == "stop"
    usage = (await suite.chat(messages=[{"role": "system", "content": "Be brief."},
                                        {"role": "user", "content": "Hi"}])).json()["usage"]  # fmt: skip
    assert answer.usage_metadata["input_tokens"] == usage["prompt_tokens"]
    assert answer.usage_metadata["output_tokens"] == usage["completion_tokens"]


async def test_a_stream_adds_up_to_the_answer(model):
    chunks = [chunk async for chunk in model.astream("Hi", stream_usage=True)]
    assert "".join(chunk.content for chunk in chunks) == "Hello!"
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0
