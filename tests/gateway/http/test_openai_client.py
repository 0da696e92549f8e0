"""The official client against the REST door."""

import openai
import pytest

from tests.gateway.pictures import image_part, picture
from tests.gateway.tools import PARIS, ROME, TOOLS, TWO_CALLS, call, section

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


@pytest.mark.parametrize("tokens_per_delta", [1, 1000])
@pytest.mark.parametrize(
    ("text", "asked", "made"),
    [
        (
            section(call("get_weather", 0, PARIS)),
            {"type": "function", "function": {"name": "get_weather"}},
            [("get_weather", PARIS)],
        ),
        (TWO_CALLS, "auto", [("get_weather", PARIS), ("a.b-c", ROME)]),
    ],
)
async def test_its_stream_helper_says_that_the_arguments_of_each_call_are_done(
    suite, client, tokens_per_delta, text, asked, made
):
    suite.say(f"Hmm.</think>{text}")
    suite.decode.tokens_per_delta = tokens_per_delta
    async with client.chat.completions.stream(
        model="kimi", messages=MESSAGES, tools=TOOLS, tool_choice=asked
    ) as stream:
        events = [event async for event in stream]
        message = (await stream.get_final_completion()).choices[0].message
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [(event.name, event.arguments) for event in done] == made
    assert [(each.function.name, each.function.arguments) for each in message.tool_calls] == made


@pytest.mark.parametrize("tokens_per_delta", [1, 2, 1000])
async def test_its_stream_helper_gives_content_and_log_probabilities_whole(suite, client, tokens_per_delta):
    suite.decode.tokens_per_delta = tokens_per_delta
    parts, tokens, done = [], [], []
    async with client.chat.completions.stream(model="kimi", messages=MESSAGES, logprobs=True) as stream:
        async for event in stream:
            if event.type == "content.delta":
                parts.append(event.delta)
            elif event.type == "logprobs.content.delta":
                tokens += [entry.token for entry in event.content]
            elif event.type == "content.done":
                done.append(event.content)
    assert "".join(parts) == "Hello!"
    assert done == ["Hello!"]
    assert "".join(tokens) == "Thinking.</think>Hello!" + suite.tokenizer.decode(
        [min(suite.tokenizer.stop_ids)]
    )
