"""Choices that reason and then say nothing are counted."""

from __future__ import annotations

import pytest

from tests.gateway.tools import TOOLS, call, section

COUNT = "perigee_unanswered_choices_total"
STOPPED = {f'{COUNT}{{finish="stop"}} 1.0'}
CUT = {f'{COUNT}{{finish="length"}} 1.0'}


async def counted(suite):
    page = (await suite.http.get("/metrics")).text
    return {line for line in page.splitlines() if line.startswith(COUNT)}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("said", "end", "count"),
    [
        ("Let me think.</think>", True, STOPPED),
        ("Let me think.", True, STOPPED),
        ("Let me think.", False, CUT),
        ("Let me think.</think>Hello!", True, set()),
        ("Let me think.</think>a", True, set()),
        ("Let me think.</think>Hello!", False, set()),
        ("</think>Hello!", True, set()),
        ("Let me think.</think>" + section(call("get_weather", 0, "{}")), True, set()),
        ("Let me think." + section(call("get_weather", 0, "{}")), True, set()),
        (
            "Let me think.</think>" + section(call("unknown", 0, "{}")),
            True,
            {f'{COUNT}{{finish="stop"}} 1.0'},
        ),
    ],
)
async def test_an_end_behind_reasoning_is_counted_by_its_reason(suite, said, end, count, stream):
    suite.say(said, end=end)
    answer = await suite.chat(tools=TOOLS, stream=stream)
    assert answer.status_code == 200
    assert await counted(suite) == count


async def test_log_probabilities_change_nothing(suite):
    suite.say("Let me think.</think>")
    await suite.chat(logprobs=True)
    suite.say("Let me think.</think>Hello!")
    await suite.chat(logprobs=True)
    assert await counted(suite) == STOPPED


async def test_a_model_that_was_told_not_to_think_is_not_counted(suite):
    suite.say("")
    await suite.chat(enable_thinking=False)
    assert await counted(suite) == set()


async def test_content_that_took_the_short_way_is_an_answer(suite):
    """A token of whole characters reaches the client without a delta."""
    suite.decode.step_s = 0.005
    suite.say("Let me think.</think>one two three four five six")
    chunks = await suite.stream()
    assert len(chunks) > 6
    assert await counted(suite) == set()
