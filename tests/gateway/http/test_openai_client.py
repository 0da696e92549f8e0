"""The official client against the REST door."""

import openai
import pytest

from tests.gateway.pictures import image_part, picture

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
async def client(suite):
    base = f"http://127.0.0.1:{suite.gateway.http_port}/v1"
    async with openai.AsyncOpenAI(api_key="any", base_url=base, max_retries=0) as opened:
        yield opened


async def test_it_reads_a_whole_answer(suite, client):
    answer = await client.chat.completions.create(
        model="kimi", messages=MESSAGES, logprobs=True, top_logprobs=1, n=2
    )
    message = answer.choices[1].message
    assert (message.content, message.reasoning_content) == ("Hello!", "Thinking.")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs.content[0].top_logprobs[0].logprob == -0.5
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


async def test_where_nothing_was_reasoned_it_can_still_be_asked_for_the_reasoning(suite, client):
    suite.say("</think>Hello!")
    answer = await client.chat.completions.create(model="kimi", messages=MESSAGES)
    message = answer.choices[0].message
    assert (message.content, message.reasoning_content) == ("Hello!", None)


async def test_it_reads_a_stream_with_an_image(suite, client):
    content = [image_part(picture()), {"type": "text", "text": "What is it?"}]
    stream = await client.chat.completions.create(
        model="kimi",
        messages=[{"role": "user", "content": content}],
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"chat_template_kwargs": {"thinking": True}},
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "Hello!"
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Thinking."
    assert chunks[-1].usage.total_tokens > 0


async def test_it_reads_completions_of_several_prompts_whole_and_streamed(suite, client):
    suite.say(" there")
    answer = await client.completions.create(model="kimi", prompt=["a", "b"], logprobs=1, echo=False)
    assert [choice.text for choice in answer.choices] == [" there", " there"]
    assert answer.choices[1].logprobs.token_logprobs[0] == -0.5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    stream = await client.completions.create(model="kimi", prompt="a", stream=True, echo=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "a there"


async def test_it_lists_models_and_raises_typed_errors(suite, client):
    assert [model.id async for model in client.models.list()] == ["kimi", "kimi-alias"]
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="kimi", messages=MESSAGES, temperature=9)
    assert caught.value.param == "temperature"


async def test_it_is_told_mid_stream_when_a_worker_dies(suite, client):
    suite.say("x" * 200)
    suite.decode.fail_after = 3
    stream = await client.chat.completions.create(model="kimi", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="decode worker"):
        async for _ in stream:
            pass
