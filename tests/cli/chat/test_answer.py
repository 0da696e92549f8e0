from __future__ import annotations

import pytest

from services.cli.chat.answer import Answer, Timing
from services.common.client import Content, Finished, Reasoning, ToolCallPart, Used
from tests.support.manual_clock import ManualClock


def test_an_answer_is_its_pieces_together():
    answer = Answer()
    pieces = [
        Reasoning("hm"), Content("a"), Content("b"), ToolCallPart(0, "id", "f", '{"x"'),
        ToolCallPart(0, "", "", ":1}"), Finished("tool_calls"), Used(5, 3, 1, 1),
    ]  # fmt: skip
    assert list(answer.collect(iter(pieces))) == pieces
    found = answer.as_json(timing=False)
    assert (found["content"], found["reasoning_content"]) == ("ab", "hm")
    assert found["tool_calls"] == [{"id": "id", "name": "f", "arguments": '{"x":1}'}]
    assert (found["finish_reason"], found["usage"]["prompt_tokens"]) == ("tool_calls", 5)
    assert "timing" not in found


def test_time_is_counted_to_the_first_text_and_from_there_to_the_last():
    clock = ManualClock()
    answer = Answer(clock)

    def pieces():
        clock.now += 2.0
        yield Reasoning("hm")
        clock.now += 4.0
        yield Content("a")
        clock.now += 1.0
        yield Used(5, 9, 0, 0)

    assert len(list(answer.collect(pieces()))) == 3
    assert answer.timing == Timing(2.0, 4.0, 9)
    assert answer.timing.line() == "[first token after 2.00 s; 6.00 s in all, 1.5 tokens/s]"


@pytest.mark.parametrize("timing", [Timing(1.0, 0.0, 0), Timing(0.0, 0.0, 0)])
def test_an_answer_without_tokens_has_no_rate(timing):
    assert timing.tokens_per_second is None
    assert "tokens/s" not in timing.line()


def test_an_answer_that_comes_in_one_piece_has_the_rate_of_its_whole_time():
    assert Timing(2.0, 0.0, 10).tokens_per_second == 5.0
