"""/v1/messages/count_tokens counts what the message would use."""

from __future__ import annotations

import asyncio
import base64

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.gateway.http.messages.talk import WRITE_FILE, counted, message_body, post
from tests.gateway.pictures import picture
from tests.gateway.suite import open_suite

TEXTS = some.text(some.characters(codec="utf-8"), max_size=40)
SIZES = some.integers(20, 200)
TEXT_BLOCKS = some.builds(lambda text: {"type": "text", "text": text}, TEXTS)


@some.composite
def images(draw):
    data = base64.b64encode(picture(draw(SIZES), draw(SIZES))).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


@some.composite
def conversations(draw):
    """Turns with text, images, calls and their results; perhaps tools, a system prompt, thinking."""
    messages = []
    for number in range(draw(some.integers(1, 3))):
        parts = draw(some.lists(TEXT_BLOCKS | images(), min_size=1, max_size=3))
        messages.append({"role": "user", "content": parts})
        if draw(some.booleans()):
            call = {
                "type": "tool_use",
                "id": f"t{number}",
                "name": "write_file",
                "input": {"path": draw(TEXTS)},
            }
            thought = {"type": "thinking", "thinking": draw(TEXTS), "signature": "s"}
            result = {
                "type": "tool_result",
                "tool_use_id": f"t{number}",
                "content": draw(TEXTS | some.lists(TEXT_BLOCKS | images(), max_size=2)),
                "is_error": draw(some.booleans()),
            }
            messages.append({"role": "assistant", "content": [thought, call]})
            messages.append({"role": "user", "content": [result]})
        messages.append({"role": "assistant", "content": draw(TEXTS)})
    messages.append({"role": "user", "content": draw(TEXTS)})
    body = {"messages": messages, "tools": draw(some.sampled_from([None, [WRITE_FILE]]))}
    body["system"] = draw(some.none() | TEXTS | some.lists(TEXT_BLOCKS, max_size=2))
    body["thinking"] = draw(some.sampled_from([None, {"type": "adaptive"}, {"type": "disabled"}]))
    body["tool_choice"] = draw(some.sampled_from([None, {"type": "auto"}, {"type": "none"}]))
    return body


async def check(bodies):
    async with open_suite() as suite:
        suite.decode.cached_tokens = 2
        for body in bodies:
            answer = await post(suite, **body)
            assert answer.status_code == 200, answer.text
            usage = answer.json()["usage"]
            read, created = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
            assert await counted(suite, **body) == usage["input_tokens"] + read + created


@settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(bodies=some.lists(conversations(), min_size=8, max_size=8))
def test_it_counts_what_the_usage_of_the_message_adds_up_to(bodies):
    asyncio.run(check(bodies))


async def test_it_needs_no_slot_and_no_worker():
    async with open_suite(max_concurrent_requests=1) as suite:
        suite.decode.step_s = 3600.0
        busy = asyncio.create_task(post(suite))
        while not suite.decode.submits:
            await asyncio.sleep(0)
        assert (await post(suite)).status_code == 429
        assert await counted(suite) > 3
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        assert len(suite.decode.submits) == 1


async def test_a_body_without_max_tokens_is_enough(suite):
    body = message_body()
    del body["max_tokens"]
    answer = await suite.http.post("/v1/messages/count_tokens", json=body)
    assert answer.json() == {"input_tokens": await counted(suite)}
