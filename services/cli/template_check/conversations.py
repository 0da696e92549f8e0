"""The conversations by which a template is compared, as chat bodies hold them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_PIXEL = "data:image/png;base64,iVBORw0KGgo="
_FILM = "data:video/mp4;base64,AAAAGGZ0eXA="
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.\nToday's, by default.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A town"},
                "days": {"type": "integer", "minimum": 1, "maximum": 7, "default": 1},
                "unit": {"enum": ["celsius", "fahrenheit"], "type": "string"},
                "near": {"type": "array", "items": {"type": ["string", "null"]}},
            },
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
_CLOCK = {"type": "function", "function": {"name": "clock"}}
_UNENCODABLE = {
    "type": "function",
    "function": {
        "name": "pick",
        "description": 'Tänker på <b> & "q"',
        "parameters": {"type": "object", "properties": {"x": {"oneOf": [{"type": "string"}]}}},
    },
}


def _user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def _assistant(content: Any, thought: str | None = None, *calls: tuple[int, Any], **more: Any) -> Any:
    message: dict[str, Any] = {"role": "assistant", "content": content, **more}
    if thought is not None:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = [
            {
                "id": f"functions.weather:{index}",
                "type": "function",
                "function": {"name": "weather", "arguments": arguments},
            }
            for index, arguments in calls
        ]
    return message


def _result(index: int, content: Any, name: str | None = "weather") -> dict[str, Any]:
    named = {} if name is None else {"name": name}
    return {"role": "tool", "tool_call_id": f"functions.weather:{index}", "content": content, **named}


_OSLO, _ROME = (0, '{"place": "Oslo"}'), (1, '{"place":"Rome",  "days":2}')
_ROUND = (_user("Oslo?"), _assistant("", "I need a tool.", _OSLO), _result(0, "snow"))
_MESSAGES: Mapping[str, tuple[dict[str, Any], ...]] = MappingProxyType(
    {
        "a question": (_user("Hi"),),
        "a system message": ({"role": "system", "content": "Be brief."}, _user("Hi")),
        "an empty system message": ({"role": "system", "content": ""}, _user("Hi")),
        "a system message later": (_user("Hi"), {"role": "system", "content": "Be brief."}, _user("So?")),
        "an answer with reasoning": (_user("Hi"), _assistant("Hello!", "a greeting"), _user("And?")),
        "an answer without reasoning": (_user("Hi"), _assistant("Hello!"), _user("And?")),
        "an answer with empty reasoning": (_user("Hi"), _assistant("Hello!", ""), _user("And?")),
        "several turns with reasoning": (
            _user("1"), _assistant("a", "ra"), _user("2"), _assistant("b", "rb"), _user("3"),
        ),
        "an answer at the end": (_user("Hi"), _assistant("Hello!", "a greeting")),
        "both names of reasoning": (
            _user("Hi"), _assistant("", "old", _OSLO, reasoning="new"), _result(0, "x"),
        ),
        "both names of reasoning, one empty": (
            _user("Hi"), _assistant("", "old", _OSLO, reasoning=""), _result(0, "x"),
        ),
        "white space in all places": (
            _user(" \n Hi \n"), _assistant("\n Hello! \n", " \n two\nlines \n\n"), _user("\t"),
        ),
        "signs of other formats": (
            _user("<b>&amp; \"q\" 'a' {{ x }} {% y %} ünï 日本 🙂"), _assistant("# <i>", "{#"), _user("?"),
        ),
        "an open tool round": _ROUND,
        "an open tool round behind an answer": (_user("Hi"), _assistant("Hello!", "a greeting"), *_ROUND),
        "the user speaks in an open round": (*_ROUND, _user("And Bergen?")),
        "a closed tool round": (*_ROUND, _assistant("Snow.", "done"), _user("Thanks")),
        "two tool rounds, one open": (
            *_ROUND, _assistant("Snow.", "done"), _user("Rome?"),
            _assistant("Let me see.", "again", _ROME), _result(1, "sun"),
        ),
        "two calls at once, results without a name": (
            _user("Both?"), _assistant(None, "both", _OSLO, _ROME),
            _result(0, "snow", None), _result(1, "sun", None),
        ),
        "a call in an instant answer": (_user("Oslo?"), _assistant("", None, _OSLO), _result(0, "")),
        "arguments as an object": (
            _user("x"), _assistant("", "r", (0, {"b": [2.0, None, True, 1e20], "a": "é <&>"})),
            _result(0, "ok"),
        ),
        "text in parts": (
            _user([{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]),
            _assistant([{"type": "text", "text": "c"}], "r"), _user("d"),
        ),
        "a picture among text": (
            _user([
                {"type": "text", "text": "What is"},
                {"type": "image_url", "image_url": {"url": _PIXEL}},
                {"type": "text", "text": "this?"},
            ]),
        ),
        "two pictures, and one in a result": (
            _user([{"type": "image_url", "image_url": {"url": _PIXEL}}] * 2), _assistant("", "r", _OSLO),
            _result(0, [{"type": "image_url", "image_url": {"url": _PIXEL}}]),
        ),
        "a video": (
            _user([{"type": "video_url", "video_url": {"url": _FILM}}, {"type": "text", "text": "?"}]),
        ),
        "names": (
            {"role": "system", "content": "s", "name": "rules"}, _user("Hi", name="ada"),
            _assistant("Hello!", "r", name="bob"), _user("?", name=""),
        ),
    }
)  # fmt: skip
_TOOLS: Mapping[str, list[dict[str, Any]]] = MappingProxyType(
    {
        "a tool": [_WEATHER],
        "two tools": [_WEATHER, _CLOCK],
        "tools that are declared as JSON": [_UNENCODABLE, _WEATHER],
    }
)


def conversations() -> dict[str, dict[str, Any]]:
    """Returns chat bodies by what is special about them: `messages`, and `tools` if there are some."""
    plain = {name: {"messages": list(messages)} for name, messages in _MESSAGES.items()}
    start = [{"role": "system", "content": "Be brief."}, *_ROUND]
    return plain | {name: {"messages": start, "tools": tools} for name, tools in _TOOLS.items()}
