"""Turning what a tool returned into an answer that quotes it."""

from __future__ import annotations

import json

from services.gateway.chat.messages import Conversation, Message, TextPart, ToolCall
from training.skills.dice import Dice
from training.skills.expectation import Call, Expectation
from training.skills.lexicon import Lexicon, invented
from training.skills.sample import Sample, user
from training.skills.split import Split
from training.skills.tool_calls import thought_of
from training.skills.toolbox import Tool, Toolbox

SKIES = ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear", "stormy", "dry", "humid")
_DEGREE_KEYS = ("temperature", "temp", "degrees", "temperature_c", "celsius")
_SKY_KEYS = ("condition", "weather", "sky", "conditions", "description", "summary")


def make_weather_result(dice: Dice, split: Split, thinking: bool, toolbox: Toolbox) -> Sample:
    """Degrees and sky of one place, or of two that were asked for in parallel."""
    tool = toolbox.tool(toolbox.weather, dice, split)
    places = [toolbox.values(tool, dice, split) for _ in range(2 if dice.chance(0.25) else 1)]
    question, _ = toolbox.request(tool, [" and ".join(place[0] for place in places)], dice, split)
    calls = tuple(tool.call(place) for place in places)
    results: list[str] = []
    facts: list[str] = []
    quoted: list[str] = []
    for (place,) in places:
        degrees, sky = split.draw("weather", lambda: (dice.between(-15, 40), dice.pick(SKIES)))
        results.append(_weather_text(dice, place, degrees, sky))
        facts.append(f"{degrees} degrees and {sky} in {place}")
        quoted += [str(degrees), sky]
    answer = f"It is {', and '.join(facts)}."
    return _answering("tool result", question, [tool], calls, results, answer, tuple(quoted), thinking, dice)


def make_other_result(dice: Dice, split: Split, thinking: bool, toolbox: Toolbox, lexicon: Lexicon) -> Sample:
    """One to three fields of a JSON object, or a line of text."""
    tool = toolbox.tools(1, dice, split)[0]
    values = toolbox.values(tool, dice, split)
    question, setting = toolbox.request(tool, values, dice, split)
    call = tool.call(values, setting)
    if dice.chance(0.3):
        value = _value(dice, split, lexicon)
        answer, result = f"The result is {value}.", str(value)
        quoted: tuple[str, ...] = (str(value),)
    else:
        keys = lexicon.words("COMPUTING", dice.between(1, 3), dice)
        fields = {key: _value(dice, split, lexicon) for key in keys}
        result = json.dumps(fields)
        answer = f"{_joined([f'the {key} is {value}' for key, value in fields.items()])}."
        answer, quoted = answer[0].upper() + answer[1:], tuple(map(str, fields.values()))
    return _answering("tool result", question, [tool], (call,), [result], answer, quoted, thinking, dice)


def _answering(
    skill: str,
    question: str,
    tools: list[Tool],
    calls: tuple[Call, ...],
    results: list[str],
    answer: str,
    quoted: tuple[str, ...],
    thinking: bool,
    dice: Dice,
) -> Sample:
    """A client may or may not send back the reasoning, and the tool's name with its result."""
    thought = thought_of(calls) if thinking and dice.chance(0.5) else ""
    ids = [f"functions.{call.name}:{index}" for index, call in enumerate(calls)]
    made = tuple(
        ToolCall(call_id, call.name, json.dumps(call.arguments, ensure_ascii=False))
        for call_id, call in zip(ids, calls, strict=True)
    )
    name = calls[0].name if dice.chance(0.3) else ""
    returned = [
        Message("tool", (TextPart(result),), name=name, tool_call_id=call_id)
        for call_id, result in zip(ids, results, strict=True)
    ]
    turns = (user(question), Message("assistant", reasoning_content=thought, tool_calls=made), *returned)
    conversation = Conversation(turns, tuple(tool.declaration() for tool in tools), thinking)
    reasoning = "I tell the result." if thinking else ""
    return Sample(skill, conversation, answer, Expectation("contains", quoted), reasoning)


def _weather_text(dice: Dice, place: str, degrees: int, sky: str) -> str:
    kind = dice.below(6)
    if kind < 3:
        value: str | int = f"{degrees}°C" if dice.chance(0.3) else degrees
        fields: dict[str, str | int] = {dice.pick(_DEGREE_KEYS): value, dice.pick(_SKY_KEYS): sky}
        if dice.chance(0.4):
            fields = {"location" if dice.chance(0.5) else "city": place, **fields}
        return json.dumps(fields, ensure_ascii=False)
    return (
        f"{degrees}°C, {sky}",
        f"{degrees} degrees and {sky}",
        f"The weather in {place} is {sky} with {degrees} degrees.",
    )[kind - 3]


def _value(dice: Dice, split: Split, lexicon: Lexicon) -> str | int:
    kind = dice.below(3)
    if kind == 0:
        return split.draw("number", lambda: dice.below(10 ** dice.between(1, 5)))
    if kind == 1:
        return lexicon.name(dice.pick(("NAMES", "CITIES")), dice, split)
    return split.draw("name", lambda: f"{invented(dice)} {lexicon.word('THINGS', dice)}")


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
