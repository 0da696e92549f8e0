"""Turning a tool's result into an answer that quotes it."""

from __future__ import annotations

from collections.abc import Sequence

from training.skills.dice import Dice
from training.skills.exchange import Exchange, Exchanges
from training.skills.expectation import Expectation
from training.skills.sample import Sample, declare
from training.skills.split import Split
from training.skills.tool_calls import thought_of
from training.skills.toolbox import Tool

_MOST_TOOLS = (1, 1, 2, 3)


def make_weather_result(dice: Dice, split: Split, thinking: bool, exchanges: Exchanges) -> Sample:
    """Makes an answer with the temperature and sky of one place, or of two that were requested in
    parallel.
    """
    tool = exchanges.toolbox.tool(exchanges.toolbox.weather, dice, split)
    others = exchanges.toolbox.tools(dice.pick(_MOST_TOOLS) - 1, dice, split)
    tools = [tool, *(other for other in others if not tool.is_like(other))]
    tools = dice.some(tools, len(tools))
    return _answering(exchanges.weather(tool, dice, split), tools, thinking, dice, split, exchanges)


def make_other_result(dice: Dice, split: Split, thinking: bool, exchanges: Exchanges) -> Sample:
    """Makes an answer from one to three fields of a JSON object, or from a line of text."""
    tools = exchanges.toolbox.tools(dice.pick(_MOST_TOOLS), dice, split)
    exchange = exchanges.other(dice.pick(tools), dice, split)
    return _answering(exchange, tools, thinking, dice, split, exchanges)


def _answering(
    exchange: Exchange,
    tools: Sequence[Tool],
    thinking: bool,
    dice: Dice,
    split: Split,
    exchanges: Exchanges,
) -> Sample:
    before = exchanges.before(tools, dice, split)
    thought = thought_of(exchange.topic, exchange.calls) if thinking and dice.chance(0.7) else ""
    name = exchange.calls[0].name if dice.chance(0.3) else ""
    made = sum(len(turn.tool_calls) for turn in before)
    turns = (*before, *exchange.turns(made, thought, name))
    return Sample(
        "tool result",
        declare(turns, tools, thinking),
        exchange.answer,
        Expectation("contains", exchange.quoted),
        "I tell the result." if thinking else "",
    )
