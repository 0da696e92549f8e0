"""An answer with tool calls as a client observes it, and checks of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator

from training.skills.strict_json import read_json

MARKERS = ("<|tool_call", "<think>", "</think>", "<|im_")


@dataclass
class ObservedAnswer:
    """One answer, whole or streamed: names and arguments by index of the call."""

    reasoning: str = ""
    content: str = ""
    names: dict[int, str] = field(default_factory=dict)
    arguments: dict[int, str] = field(default_factory=dict)
    finish: str = ""
    tokens: int = 0
    error: str = ""

    @classmethod
    def of(cls, answer: dict[str, Any]) -> ObservedAnswer:
        """Parses the body of a chat completion."""
        [choice] = answer["choices"]
        observed = cls(finish=choice["finish_reason"], tokens=answer["usage"]["completion_tokens"])
        observed._take(choice["message"])
        return observed

    @classmethod
    def of_events(cls, events: Iterable[dict[str, Any]]) -> ObservedAnswer:
        """Parses the events of a stream that ends with its usage."""
        observed = cls()
        for event in events:
            if "error" in event:
                observed.error = event["error"]["message"]
            for choice in event.get("choices", ()):
                observed._take(choice["delta"])
                observed.finish = choice.get("finish_reason") or observed.finish
            observed.tokens = (event.get("usage") or {}).get("completion_tokens", observed.tokens)
        return observed

    def _take(self, message: dict[str, Any]) -> None:
        """Adds a message, or appends a delta."""
        self.reasoning += message.get("reasoning_content") or ""
        self.content += message.get("content") or ""
        for place, call in enumerate(message.get("tool_calls") or ()):
            index = call.get("index", place)
            function = call["function"]
            self.names[index] = self.names.get(index, "") + (function.get("name") or "")
            self.arguments[index] = self.arguments.get(index, "") + (function.get("arguments") or "")

    def verdict(self, tool: dict[str, Any], texts: Iterable[str] = ()) -> Iterator[str]:
        """Yields "finished" if a call is finished, and one word per fault: "error", "name", "invalid"
        (arguments), "finish" (reason), "leak" (of a marker). Markers in `texts`, which the schema itself
        contains, are not faults; nor are the last call's arguments that `max_tokens` cut.
        """
        if self.error:
            yield "error"
            return
        function = tool["function"]
        cut = [max(self.arguments)] if self._is_cut() else []
        for index, arguments in self.arguments.items():
            if self.names[index] != function["name"]:
                yield "name"
            if index not in cut and not _valid(arguments, function["parameters"]):
                yield "invalid"
        if self.finish not in (("tool_calls", "length") if self.arguments else ("stop", "length")):
            yield "finish"
        if any(_leaks(text, texts) for text in (self.reasoning, self.content, *self.arguments.values())):
            yield "leak"
        if len(self.arguments) > len(cut):
            yield "finished"

    def _is_cut(self) -> bool:
        if self.finish != "length" or not self.arguments:
            return False
        try:
            read_json(self.arguments[max(self.arguments)])
        except ValueError:
            return True
        return False


def _valid(arguments: str, schema: dict[str, Any]) -> bool:
    """Whether `arguments` is JSON that the jsonschema package accepts, formats included."""
    try:
        value = read_json(arguments)
    except ValueError:
        return False
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return bool(validator.is_valid(value))


def _leaks(text: str, allowed: Iterable[str]) -> bool:
    for own in allowed:
        text = text.replace(own, "").replace(json.dumps(own)[1:-1], "")
    return any(marker in text for marker in MARKERS)
