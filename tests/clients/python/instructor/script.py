"""Instructor: typed answers by tool and by schema, partial and iterable streams, typed errors."""

from collections.abc import Iterator

import instructor
import openai
from checklist import ENDLESS, MODEL, NOTE, PLACES, QUESTION, WEATHER, Checklist, Note, Place, raised
from instructor.core import InstructorRetryException
from pydantic import BaseModel

checklist = Checklist()
holds, suite = checklist.holds, checklist.suite
ASK = {"model": MODEL, "temperature": 0, "messages": [{"role": "user", "content": PLACES}], "max_retries": 0}


class get_weather(BaseModel):
    """Get the current weather of a city"""

    city: str


def opened(mode: instructor.Mode = instructor.Mode.TOOLS, url: str = suite.url) -> instructor.Instructor:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=120)
    return instructor.from_openai(client, mode=mode)


@holds("answer")
def answer():
    place, completion = opened().chat.completions.create_with_completion(response_model=Place, **ASK)
    assert isinstance(place, Place)
    assert completion.id.startswith("chatcmpl-")
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > usage.prompt_tokens > 0


@holds("stream")
def stream():
    # The schema that it sends for a stream is another one, with its own answer: only the growth is compared.
    asked = ASK | {"messages": [{"role": "user", "content": NOTE}]}
    *partial, last = opened().chat.completions.create_partial(response_model=Note, **asked)
    assert len(partial) >= 5
    final = Note.model_validate(last.model_dump())
    assert all(final.text.startswith(each.text or "") for each in partial)


@holds("call")
def call():
    asked = ASK | {"messages": [{"role": "user", "content": WEATHER}]}
    made, completion = opened().chat.completions.create_with_completion(response_model=get_weather, **asked)
    assert made.city == "Paris"
    [called] = completion.choices[0].message.tool_calls
    assert called.id == "functions.get_weather:0"


@holds("structured")
def structured():
    for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA):
        assert isinstance(opened(mode).chat.completions.create(response_model=Place, **ASK), Place), mode


@holds("streamed structured")
def streamed_structured():
    places = list(opened().chat.completions.create_iterable(response_model=Place, **ASK, max_tokens=400))
    assert all(isinstance(place, Place) for place in places)


@holds("400")
def bad_request():
    error = raised(
        InstructorRetryException,
        lambda: opened().chat.completions.create(response_model=Place, **ASK | {"temperature": 9}),
    )
    cause = error.failed_attempts[-1].exception if error.failed_attempts else error.__cause__
    assert isinstance(cause, openai.BadRequestError), repr(cause)
    assert cause.param == "temperature"


@holds("429")
def overloaded():
    error = raised(
        InstructorRetryException,
        lambda: opened(url=suite.busy_url).chat.completions.create(response_model=Place, **ASK),
    )
    cause = error.failed_attempts[-1].exception if error.failed_attempts else error.__cause__
    assert isinstance(cause, openai.RateLimitError), repr(cause)
    assert float(cause.response.headers["retry-after"]) >= 1


@checklist.streams
def pieces() -> Iterator[str]:
    asked = ASK | {"messages": [{"role": "user", "content": QUESTION}]}
    chunks = opened().chat.completions.create(
        response_model=None, **asked, max_tokens=3000, stream=True, extra_body=ENDLESS
    )
    with chunks:
        for chunk in chunks:
            for choice in chunk.choices:
                yield choice.delta.content or getattr(choice.delta, "reasoning_content", None) or ""


checklist.run()
