"""One round of a conversation with tools: a request, the calls, their results and the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from services.families.conversation import Message, TextPart, ToolCall
from training.skills.dice import Dice
from training.skills.expectation import Call
from training.skills.lexicon import Lexicon, invented
from training.skills.sample import user
from training.skills.split import Split
from training.skills.toolbox import Tool, Toolbox

NO_TOOL_ANSWER = "Sorry, I have no tool for that."
SKIES = ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear", "stormy", "dry", "humid")
_DEGREE_KEYS = ("temperature", "temp", "degrees", "temperature_c", "celsius")
_SKY_KEYS = ("condition", "weather", "sky", "conditions", "description", "summary")
_PARALLEL_SHARE = 0.25
_NO_TOOL_SHARE = 0.25


@dataclass(frozen=True)
class Exchange:
    """One round with tools. `topic` is the subject of the question. `calls` is empty if no tool fits.
    `quoted` lists the parts of the results that the answer contains.
    """

    question: str
    topic: str
    calls: tuple[Call, ...] = ()
    results: tuple[str, ...] = ()
    answer: str = NO_TOOL_ANSWER
    quoted: tuple[str, ...] = ()

    def turns(self, first_index: int = 0, thought: str = "", name: str = "") -> tuple[Message, ...]:
        """All messages except the answer. `first_index` is the number of earlier calls. Clients may omit the
        reasoning `thought` and the tool's `name` in its result.
        """
        if not self.calls:
            return (user(self.question),)
        made = tuple(
            ToolCall(
                f"functions.{call.name}:{index}", call.name, json.dumps(call.arguments, ensure_ascii=False)
            )
            for index, call in enumerate(self.calls, start=first_index)
        )
        returned = (
            Message("tool", (TextPart(result),), name=name, tool_call_id=call.id)
            for call, result in zip(made, self.results, strict=True)
        )
        return (
            user(self.question),
            Message("assistant", reasoning_content=thought, tool_calls=made),
            *returned,
        )


class Exchanges:
    """Makes exchanges from a toolbox."""

    def __init__(self, toolbox: Toolbox, lexicon: Lexicon) -> None:
        self.toolbox = toolbox
        self._lexicon = lexicon

    def weather(self, tool: Tool, dice: Dice, split: Split) -> Exchange:
        """An exchange about the temperature and sky of one place, or of two with parallel calls."""
        places, question = self._places(tool, dice, split)
        results: list[str] = []
        facts: list[str] = []
        quoted: list[str] = []
        for place in places:
            degrees, sky = split.draw("weather", lambda: (dice.between(-15, 40), dice.pick(SKIES)))
            results.append(_weather_text(dice, place, degrees, sky))
            facts.append(f"{degrees} degrees and {sky} in {place}")
            quoted += [str(degrees), sky]
        calls = tuple(tool.call([place]) for place in places)
        answer = f"It is {', and '.join(facts)}."
        return Exchange(question, tool.domain.topic, calls, tuple(results), answer, tuple(quoted))

    def other(self, tool: Tool, dice: Dice, split: Split) -> Exchange:
        """An exchange with one call, which returns one to three fields of a JSON object, or a line
        of text.
        """
        values = self.toolbox.values(tool, dice, split)
        question, setting = self.toolbox.request(tool, values, dice, split)
        calls, topic = (tool.call(values, setting),), tool.domain.topic
        if dice.chance(0.3):
            value = str(self._value(dice, split))
            return Exchange(question, topic, calls, (value,), f"The result is {value}.", (value,))
        keys = self._lexicon.words("COMPUTING", dice.between(1, 3), dice)
        fields = {key: self._value(dice, split) for key in keys}
        answer = f"{_joined([f'the {key} is {value}' for key, value in fields.items()])}."
        quoted = tuple(map(str, fields.values()))
        answer = answer[0].upper() + answer[1:]
        return Exchange(question, topic, calls, (json.dumps(fields),), answer, quoted)

    def no_tool(self, tools: Sequence[Tool], dice: Dice, split: Split) -> Exchange:
        """An exchange with a request that no declared tool fits."""
        (missing,) = self.toolbox.tools(1, dice, split)
        while any(missing.is_like(tool) for tool in tools):
            (missing,) = self.toolbox.tools(1, dice, split)
        values = self.toolbox.values(missing, dice, split)
        question, _ = self.toolbox.request(missing, values, dice, split)
        return Exchange(question, missing.domain.topic)

    def before(self, tools: Sequence[Tool], dice: Dice, split: Split) -> tuple[Message, ...]:
        """Up to three earlier rounds with the same tools. They are trained too, so one declaration, which is
        most of such a prompt, yields several answers. Held-out cases have no earlier rounds.
        """
        turns: list[Message] = []
        if split is Split.HELD_OUT:
            return ()
        for _ in range(dice.below(4)):
            tool = dice.pick(tools)
            if dice.chance(_NO_TOOL_SHARE):
                exchange = self.no_tool(tools, dice, split)
            else:
                make = self.weather if tool.domain is self.toolbox.weather else self.other
                exchange = make(tool, dice, split)
            first_index = sum(len(turn.tool_calls) for turn in turns)
            turns += exchange.turns(first_index)
            turns.append(Message("assistant", (TextPart(exchange.answer),)))
        return tuple(turns)

    def _places(self, tool: Tool, dice: Dice, split: Split) -> tuple[list[str], str]:
        places = [self.toolbox.values(tool, dice, split)[0] for _ in range(1 + dice.chance(_PARALLEL_SHARE))]
        return places, self.toolbox.request(tool, [" and ".join(places)], dice, split)[0]

    def _value(self, dice: Dice, split: Split) -> str | int:
        kind = dice.below(3)
        if kind == 0:
            return split.draw("number", lambda: dice.below(10 ** dice.between(1, 5)))
        if kind == 1:
            return self._lexicon.name(dice.pick(("NAMES", "CITIES")), dice, split)
        return split.draw("name", lambda: f"{invented(dice)} {self._lexicon.word('THINGS', dice)}")


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


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
