"""Choosing a tool and copying its arguments: one call, two in parallel, or none because no tool fits."""

from __future__ import annotations

from typing import Any

from training.skills.dice import Dice
from training.skills.expectation import Call, Expectation
from training.skills.sample import Sample, ask
from training.skills.split import Split
from training.skills.toolbox import Tool, Toolbox

NO_TOOL_ANSWER = "Sorry, I have no tool for that."


def make_tool_call(dice: Dice, split: Split, thinking: bool, toolbox: Toolbox) -> Sample:
    """Of one to five declared tools the one that the request is about, once."""
    tools = toolbox.tools(dice.pick((1, 2, 2, 3, 3, 4, 5)), dice, split)
    tool = dice.pick(tools)
    values = toolbox.values(tool, dice, split)
    question, setting = toolbox.request(tool, values, dice, split)
    call = tool.call(values, setting)
    return _calling("tool call", question, tools, (call,), thinking)


def make_parallel_calls(dice: Dice, split: Split, thinking: bool, toolbox: Toolbox) -> Sample:
    """The same tool for two values of its first parameter."""
    tools = toolbox.tools(dice.between(1, 3), dice, split)
    single = [tool for tool in tools if len(tool.parameters) == 1]
    while not single:
        tools = toolbox.tools(dice.between(1, 3), dice, split)
        single = [tool for tool in tools if len(tool.parameters) == 1]
    tool = dice.pick(single)
    first, second = toolbox.values(tool, dice, split), toolbox.values(tool, dice, split)
    while second == first:
        second = toolbox.values(tool, dice, split)
    question, setting = toolbox.request(tool, [f"{first[0]} and {second[0]}"], dice, split)
    calls = tool.call(first, setting), tool.call(second, setting)
    return _calling("parallel calls", question, tools, calls, thinking)


def make_no_call(dice: Dice, split: Split, thinking: bool, toolbox: Toolbox) -> Sample:
    """A request that none of the declared tools is about."""
    *tools, missing = toolbox.tools(dice.between(2, 4), dice, split)
    clash = set(missing.domain.nouns.split())
    tools = [tool for tool in tools if not clash & set(tool.domain.nouns.split())]
    if not tools:
        return make_no_call(dice, split, thinking, toolbox)
    question, _ = toolbox.request(missing, toolbox.values(missing, dice, split), dice, split)
    return Sample(
        "no call",
        ask(question, thinking, _declared(tools)),
        NO_TOOL_ANSWER,
        Expectation("contains", ("no tool",)),
        "No tool fits." if thinking else "",
    )


def thought_of(calls: tuple[Call, ...]) -> str:
    """What precedes calls in the reasoning."""
    each = [" and ".join(f"{name} {value}" for name, value in call.arguments.items()) for call in calls]
    return f"I call {calls[0].name} with {', and again with '.join(each)}."


def _calling(skill: str, question: str, tools: list[Tool], calls: tuple[Call, ...], thinking: bool) -> Sample:
    return Sample(
        skill,
        ask(question, thinking, _declared(tools)),
        "",
        Expectation("calls", calls=calls),
        thought_of(calls) if thinking else "",
        calls,
    )


def _declared(tools: list[Tool]) -> tuple[Any, ...]:
    return tuple(tool.declaration() for tool in tools)
