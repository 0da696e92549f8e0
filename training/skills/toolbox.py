"""Tools with invented names in the form of the API, and user requests that call for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.skills.dice import Dice
from training.skills.domains import Domain, Parameter, load_domains
from training.skills.expectation import Call
from training.skills.lexicon import Lexicon, invented
from training.skills.split import Split
from training.skills.wording import expand, pick_wording

LANGUAGES = ("French", "German", "Italian", "Spanish", "Greek", "Japanese", "Polish", "Portuguese")
ROOMS = ("kitchen", "garden", "office", "hall", "bedroom", "bathroom", "garage", "living room", "cellar")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Text around every request, which gives each many wordings.
FRAME = ("[|Hi! |Hello. |Please help me: |I have a question. |One more thing: ]", "[| Thanks!| Thank you.]")
_GENERIC_SHARE = 0.35


@dataclass(frozen=True)
class Tool:
    """A declared function. `parameters` holds name and kind of each required parameter, in the domain's
    order.
    """

    name: str
    description: str
    domain: Domain
    parameters: tuple[tuple[str, Parameter], ...]
    setting: str
    comments: dict[str, str]

    def declaration(self) -> dict[str, Any]:
        """The tool's entry in the `tools` array of a request."""
        properties: dict[str, Any] = {}
        for name, parameter in self.parameters:
            kind = "integer" if parameter.kind == "number" else "string"
            properties[name] = {"type": kind} | self._comment(name)
            if parameter.kind == "on-or-off":
                properties[name]["enum"] = ["on", "off"]
        if self.setting:
            properties[self.setting] = {"type": "string", "enum": list(self.domain.setting[1:])}
        schema = {
            "type": "object",
            "properties": properties,
            "required": [name for name, _ in self.parameters],
        }
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": schema},
        }

    def call(self, values: list[Any], setting: str = "") -> Call:
        """A call with arguments in the order in which the declaration lists the parameters."""
        named = zip((name for name, _ in self.parameters), values, strict=True)
        arguments = dict(sorted(named))
        return Call(self.name, arguments | ({self.setting: setting} if setting else {}))

    def is_like(self, other: Tool) -> bool:
        """Whether a request for one tool could also mean the other."""
        return bool(set(self.domain.nouns.split()) & set(other.domain.nouns.split()))

    def _comment(self, name: str) -> dict[str, str]:
        return {"description": self.comments[name]} if name in self.comments else {}


class Toolbox:
    """Draws tools and values."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._domains = load_domains()
        self.weather = self._domains[0]

    def tools(self, count: int, dice: Dice, split: Split) -> list[Tool]:
        """Makes `count` tools with different topics and names."""
        found: list[Tool] = []
        while len(found) < count:
            domain = self._generic(dice) if dice.chance(_GENERIC_SHARE) else dice.pick(self._domains)
            tool = self.tool(domain, dice, split)
            if all(tool.name != other.name and domain.topic != other.domain.topic for other in found):
                found.append(tool)
        return found

    def tool(self, domain: Domain, dice: Dice, split: Split) -> Tool:
        """A tool of a domain, with a name that belongs to the split."""
        parameters: list[tuple[str, Parameter]] = []
        while len(parameters) < len(domain.parameters):
            parameter = domain.parameters[len(parameters)]
            name = split.draw("parameter", lambda p=parameter: _parameter_name(p, dice))  # type: ignore[misc]
            if name not in dict(parameters):
                parameters.append((name, parameter))
        described = dice.chance(0.7)
        comments = {name: expand(parameter.description, dice) for name, parameter in parameters if described}
        setting = domain.setting[0] if domain.setting and dice.chance(0.5) else ""
        return Tool(
            split.draw("tool", lambda: _tool_name(domain, dice)),
            expand(dice.pick(domain.descriptions), dice),
            domain,
            tuple(parameters),
            setting if setting not in dict(parameters) else "",
            comments,
        )

    def values(self, tool: Tool, dice: Dice, split: Split) -> list[Any]:
        """One value for each required parameter, no two alike."""
        values: list[Any] = []
        for _, parameter in tool.parameters:
            value = self._value(parameter.kind, dice, split)
            while value in values:
                value = self._value(parameter.kind, dice, split)
            values.append(value)
        return values

    def request(self, tool: Tool, values: list[Any], dice: Dice, split: Split) -> tuple[str, str]:
        """A user's request, and the setting it names, if any."""
        framed = [f"{FRAME[0]}{pattern}{FRAME[1]}" for pattern in tool.domain.requests]
        text = pick_wording(framed, dice, split).format(*values)
        if not tool.setting or dice.chance(0.5):
            return text, ""
        setting = dice.pick(tool.domain.setting[1:])
        return f"{text} I want it in {setting}.", setting

    def _value(self, kind: str, dice: Dice, split: Split) -> Any:
        lexicon = self._lexicon
        if kind == "number":
            return split.draw("number", lambda: dice.between(2, 10 ** dice.between(1, 4)))
        if kind in _FIXED:
            return dice.pick(_FIXED[kind])
        theme = {"city": "CITIES", "country": "COUNTRIES", "person": "NAMES"}.get(kind)
        if theme is not None:
            return lexicon.name(theme, dice, split)
        if dice.chance(0.3):
            return split.draw("name", lambda: invented(dice))
        return lexicon.word("FOODS" if kind == "food" else "THINGS", dice)

    def _generic(self, dice: Dice) -> Domain:
        """A function of no known domain: only the words of its description indicate when to call it."""
        verb, noun = self._lexicon.word("VERBS", dice), self._lexicon.word("COMPUTING", dice)
        thing, start = self._lexicon.word("THINGS", dice), verb.capitalize()
        kind = dice.pick(("thing", "person", "city", "number"))
        name = self._lexicon.word("COMPUTING", dice)
        parameter = Parameter(f"{name} {thing} {name}_id {thing}_name", kind, f"The {name} of the {thing}")
        return Domain(
            noun,
            verb,
            f"{noun} {noun} {thing}_{noun}",
            (
                f"{start} the {noun} of a {thing}.",
                f"{start} the {noun}[.| of the {thing}.]",
            ),
            (parameter,),
            (
                f"[{start}|Please {verb}|I want to {verb}] the {noun} of [the {thing} |]{{0}}[.|]",
                f"[{start}|Please {verb}] the {thing} {noun} [for|of] {{0}}[.|, please.]",
            ),
        )


_FIXED = {"language": LANGUAGES, "room": ROOMS, "day": DAYS, "on-or-off": ("on", "off")}


def _tool_name(domain: Domain, dice: Dice) -> str:
    verb, noun = dice.pick(domain.verbs.split()), dice.pick(domain.nouns.split())
    kind = dice.below(10)
    if kind < 5:
        return f"{verb}_{noun}"
    if kind < 6:
        return verb + "".join(part.capitalize() for part in noun.split("_"))
    if kind < 7:
        return f"{noun}_{verb}"
    if kind < 8:
        return noun
    return f"{invented(dice)}_{noun}" if kind < 9 else f"{verb}_{invented(dice)}"


def _parameter_name(parameter: Parameter, dice: Dice) -> str:
    if dice.chance(0.15):
        return invented(dice)
    name = dice.pick(parameter.names.split())
    return f"{name}_{dice.pick(('name', 'value', 'text', 'id'))}" if dice.chance(0.15) else name
