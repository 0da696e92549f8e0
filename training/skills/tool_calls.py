"""Choosing a tool and copying its arguments: one call, two in parallel, or none because no tool fits."""

from __future__ import annotations

from collections.abc import Sequence

from services.families.conversation import Message
from training.skills.dice import Dice
from training.skills.exchange import Exchanges
from training.skills.expectation import Call, Expectation
from training.skills.sample import Sample, declare, user
from training.skills.split import Split
from training.skills.toolbox import Tool


def make_tool_call(dice: Dice, split: Split, thinking: bool, exchanges: Exchanges) -> Sample:
    """Makes one call of the tool that fits the request, with one to five declared tools."""
    toolbox = exchanges.toolbox
    tools = toolbox.tools(dice.pick((1, 2, 2, 3, 3, 4, 5)), dice, split)
    tool = dice.pick(tools)
    values = toolbox.values(tool, dice, split)
    question, setting = toolbox.request(tool, values, dice, split)
    before = exchanges.before(tools, dice, split)
    calls = (tool.call(values, setting),)
    return _calling("tool call", (*before, user(question)), tools, tool, calls, thinking)


def make_parallel_calls(dice: Dice, split: Split, thinking: bool, exchanges: Exchanges) -> Sample:
    """Makes parallel calls of the same tool for two values of its first parameter."""
    toolbox = exchanges.toolbox
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
    before = exchanges.before(tools, dice, split)
    return _calling("parallel calls", (*before, user(question)), tools, tool, calls, thinking)


def make_no_call(dice: Dice, split: Split, thinking: bool, exchanges: Exchanges) -> Sample:
    """Makes a request that none of the declared tools fits."""
    tools = exchanges.toolbox.tools(dice.between(1, 3), dice, split)
    exchange = exchanges.no_tool(tools, dice, split)
    turns = (*exchanges.before(tools, dice, split), *exchange.turns())
    return Sample(
        "no call",
        declare(turns, tools, thinking),
        exchange.answer,
        Expectation("contains", ("no tool",)),
        thought_of(exchange.topic) if thinking else "",
    )


def thought_of(topic: str, calls: tuple[Call, ...] = ()) -> str:
    """A thought that mentions the topic of the request and the calls, if any.

    It contains only what the choice needs: each further word is one more that can be wrong.
    """
    return f"Wanted: {topic}. {f'I call {calls[0].name}.' if calls else 'No tool fits.'}"


def _calling(
    skill: str,
    turns: tuple[Message, ...],
    tools: Sequence[Tool],
    tool: Tool,
    calls: tuple[Call, ...],
    thinking: bool,
) -> Sample:
    return Sample(
        skill,
        declare(turns, tools, thinking),
        "",
        Expectation("calls", calls=calls),
        thought_of(tool.domain.topic, calls) if thinking else "",
        calls,
    )
