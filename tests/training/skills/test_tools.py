"""Requests name the values, declarations the tools, and calls put the one into the other."""

from __future__ import annotations

import pytest

from training.skills.curriculum import Curriculum

CURRICULUM = Curriculum(3)


def question(sample):
    return (
        next(turn for turn in reversed(sample.conversation.messages) if turn.role == "user").content[-1].text
    )


@pytest.mark.parametrize("skill", ["tool call", "parallel calls", "search product"])
def test_calls_are_valid_under_the_declared_schema(skill):
    for number in range(50):
        sample = CURRICULUM.case(skill, number)
        declared = {
            tool["function"]["name"]: tool["function"]["parameters"] for tool in sample.conversation.tools
        }
        for call in sample.calls:
            schema = declared[call.name]
            assert set(schema["required"]) <= call.arguments.keys() <= schema["properties"].keys()
            for name, value in call.arguments.items():
                wanted = schema["properties"][name]
                assert type(value) is {"string": str, "integer": int}[wanted["type"]]
                assert value in wanted.get("enum", [value])


@pytest.mark.parametrize("skill", ["tool call", "parallel calls"])
def test_every_argument_is_copied_from_the_request(skill):
    for number in range(50):
        sample = CURRICULUM.case(skill, number)
        for call in sample.calls:
            assert all(str(value) in question(sample) for value in call.arguments.values())


def test_parallel_calls_are_two_different_ones_of_one_tool():
    for number in range(30):
        first, second = CURRICULUM.case("parallel calls", number).calls
        assert first.name == second.name
        assert first.arguments != second.arguments


def test_where_no_tool_fits_none_of_the_request_is_declared():
    for number in range(50):
        sample = CURRICULUM.case("no call", number)
        assert not sample.calls
        assert sample.conversation.tools


@pytest.mark.parametrize("skill", ["weather result", "other result"])
def test_an_answer_quotes_what_the_tool_returned(skill):
    for number in range(50):
        sample = CURRICULUM.case(skill, number)
        results = " ".join(
            turn.content[0].text for turn in sample.conversation.messages if turn.role == "tool"
        )
        for value in sample.expect.values:
            assert value in results
            assert value in sample.answer


def test_only_training_has_earlier_rounds_and_they_call_what_is_declared():
    rounds = 0
    for number in range(40):
        asked = CURRICULUM.case("tool call", number).conversation.messages
        assert not any(turn.tool_calls for turn in asked)
        sample = CURRICULUM.sample(number, {"tool call": 1.0})
        declared = {tool["function"]["name"] for tool in sample.conversation.tools}
        calls = [call for turn in sample.conversation.messages for call in turn.tool_calls]
        assert {call.name for call in calls} <= declared
        assert [call.id for call in calls] == [
            f"functions.{call.name}:{index}" for index, call in enumerate(calls)
        ]
        rounds += len(calls)
    assert rounds > 20
