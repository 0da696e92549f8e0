"""Anthropic's client for Python: whole messages, the stream helper, tools, counted tokens, typed errors."""

import json
import time
from collections.abc import Iterator

import anthropic
from checklist import (
    ANSWER,
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
client = anthropic.Anthropic(base_url=suite.url, api_key="any", max_retries=0, timeout=120)
busy = anthropic.Anthropic(base_url=suite.busy_url, api_key="any", max_retries=0, timeout=120)
# The client has no parameter for it any more.
GREEDY = {"extra_body": {"temperature": 0}}
THINKING = {"thinking": {"type": "adaptive"}}


def tool(function: dict) -> dict:
    """A function in Anthropic's spelling."""
    declared = function["function"]
    return {
        "name": declared["name"],
        "description": declared["description"],
        "input_schema": declared["parameters"],
    }


def asked(text: str, **more: object) -> dict:
    """Parameters of a greedy question."""
    return {
        "model": MODEL,
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": text}],
        **GREEDY,
        **THINKING,
        **more,
    }


ASK = asked(QUESTION)
CALL = asked(WEATHER, tools=[tool(GET_WEATHER)], tool_choice={"type": "tool", "name": "get_weather"})
LONG = asked(NOTE, tools=[tool(WRITE_NOTE)], tool_choice={"type": "tool", "name": "write_note"})


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def thoughts_of(message: anthropic.types.Message) -> str:
    return "".join(block.thinking for block in message.content if block.type == "thinking")


def calls_of(message: anthropic.types.Message) -> list:
    return [block for block in message.content if block.type == "tool_use"]


def prompt_tokens(usage: anthropic.types.Usage) -> int:
    return usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens


@holds("answer")
def answer():
    message = client.messages.create(**ASK)
    assert (message.role, text_of(message), message.stop_reason) == ("assistant", ANSWER, "end_turn")
    assert message.id.startswith("msg_")
    assert message.model == MODEL
    assert prompt_tokens(message.usage) > 0
    assert message.usage.output_tokens > 0
    assert message._request_id


@holds("stream")
def stream():
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as opened:
        texts = list(opened.text_stream)
        message = opened.get_final_message()
    assert "".join(texts) == text_of(message) == ANSWER
    assert len(texts) > 1
    assert message.stop_reason == "end_turn"
    assert prompt_tokens(message.usage) == prompt_tokens(whole.usage)
    assert message.usage.output_tokens == whole.usage.output_tokens


@holds("reasoning")
def reasoning():
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as opened:
        message = opened.get_final_message()
    assert thoughts_of(message) == thoughts_of(whole) != ""
    assert message.content[0].signature == whole.content[0].signature != ""
    again = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": QUESTION},
    ]
    assert text_of(client.messages.create(**ASK | {"messages": again}))


@holds("call")
def call():
    message = client.messages.create(**CALL)
    [made] = calls_of(message)
    assert (made.name, made.input) == ("get_weather", {"city": "Paris"})
    assert made.id
    assert message.stop_reason == "tool_use"


@holds("streamed call")
def streamed_call():
    [whole] = calls_of(client.messages.create(**LONG))
    with client.messages.stream(**LONG) as opened:
        pieces = [event.partial_json for event in opened if event.type == "input_json"]
        [made] = calls_of(opened.get_final_message())
    assert json.loads("".join(pieces)) == made.input == whole.input
    assert len(pieces) >= 5


@holds("two calls")
def two_calls():
    both = asked(TWO_WEATHERS, tools=[tool(GET_WEATHER)])
    with client.messages.stream(**both) as opened:
        ended = [event.content_block for event in opened if event.type == "content_block_stop"]
    made = [(block.id, block.input) for block in ended if block.type == "tool_use"]
    assert made == TWO_CALLS


@holds("loop")
def loop():
    messages = [{"role": "user", "content": WEATHER}]
    turn = asked(WEATHER, tools=[tool(GET_WEATHER)])
    message = client.messages.create(**turn)
    [made] = calls_of(message)
    result = {"type": "tool_result", "tool_use_id": made.id, "content": WEATHER_RESULT}
    messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    answer = client.messages.create(**turn | {"messages": messages})
    assert answer.stop_reason == "end_turn"
    assert "22" in text_of(answer)


@holds("structured")
def structured():
    form = {"format": {"type": "json_schema", "schema": Place.model_json_schema()}}
    message = client.messages.create(**asked(PLACES, output_config=form))
    assert Place.model_validate_json(text_of(message))


@holds("count")
def count():
    for parameters in (ASK, CALL, LONG):
        body = {name: parameters[name] for name in ("model", "messages", "thinking")}
        body |= {name: parameters[name] for name in ("tools", "tool_choice") if name in parameters}
        counted = client.messages.count_tokens(**body).input_tokens
        assert counted == prompt_tokens(client.messages.create(**parameters).usage)


@holds("models")
def models():
    page = client.models.list()
    assert [model.id for model in page] == [MODEL]
    assert client.models.retrieve(MODEL).type == "model"


@holds("400")
def bad_request():
    wrong = ASK | {"extra_body": {"temperature": 9}}
    error = raised(anthropic.BadRequestError, lambda: client.messages.create(**wrong))
    assert (error.status_code, error.body["error"]["type"]) == (400, "invalid_request_error")
    assert "temperature" in error.message
    assert error.request_id == error.body["request_id"]
    raised(anthropic.BadRequestError, lambda: list(client.messages.create(**wrong, stream=True)))
    missing = raised(anthropic.NotFoundError, lambda: client.messages.create(**ASK | {"model": "nobody"}))
    assert missing.body["error"]["type"] == "not_found_error"
    long = ASK | {"messages": [{"role": "user", "content": "word " * 200_000}]}
    error = raised(anthropic.BadRequestError, lambda: client.messages.create(**long))
    assert "prompt is too long: " in error.message


@holds("429")
def overloaded():
    for streamed in (False, True):
        error = raised(
            anthropic.RateLimitError,
            lambda streamed=streamed: busy.messages.create(**ASK, stream=streamed),
        )
        assert error.body["error"]["type"] == "rate_limit_error"
        assert float(error.response.headers["retry-after"]) >= 1
    assert busy.messages.count_tokens(model=MODEL, messages=ASK["messages"]).input_tokens > 0


@holds("retry")
def retry():
    patient = busy.with_options(max_retries=1)
    started = time.monotonic()
    raised(anthropic.RateLimitError, lambda: patient.messages.create(**ASK))
    waited = time.monotonic() - started
    assert 1 <= waited < 5, waited


@checklist.streams
def pieces() -> Iterator[str]:
    endless = LONG["tools"][0]["input_schema"]["properties"]["text"] | {"minLength": 3000, "maxLength": 3100}
    schema = {"type": "object", "properties": {"text": endless}, "required": ["text"]}
    parameters = LONG | {"tools": [LONG["tools"][0] | {"input_schema": schema}], "max_tokens": 3000}
    with client.messages.stream(**parameters) as opened:
        for event in opened:
            if event.type == "input_json":
                yield event.partial_json


checklist.run()
