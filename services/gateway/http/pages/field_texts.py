"""What each field of a body or an answer means, for /openapi.json.

A field that gRPC has too takes its text from the comments of the .proto files, which `make protos` collects
in texts.json. field_texts.toml has the texts of those that only REST has, or has otherwise.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from services.common.sampling.control import Control, Door, Flag
from services.common.sampling.controls import CONTROLS

MESSAGES: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "ChatBody": ("ChatRequest", "SamplingParams"),
        "MessageBody": ("Message",),
        "ToolCallBody": ("ToolCall",),
        "FunctionBody": ("ToolCall",),
        "CountBody": ("ChatRequest",),
        "MessagesBody": ("ChatRequest", "SamplingParams"),
        "CompletionBody": ("GenerateRequest", "SamplingParams"),
        "GenerateBody": ("GenerateRequest",),
        "GenerateParams": ("GenerateRequest", "SamplingParams"),
        "TokenizeBody": ("TokenizeRequest",),
        "DetokenizeBody": ("DetokenizeRequest",),
        "ChatAnswer": ("ChatResponse",),
        "ChatChoice": ("ChatChoice",),
        "MessageAnswer": ("ChatChoice",),
        "ToolCallAnswer": ("ToolCall",),
        "FunctionAnswer": ("ToolCall",),
        "ChatChunk": ("ChatChunk",),
        "ChunkChoice": ("ChatDelta",),
        "DeltaAnswer": ("ChatDelta",),
        "ToolCallDelta": ("ToolCallDelta",),
        "FunctionDelta": ("ToolCallDelta",),
        "CompletionAnswer": ("ChatResponse",),
        "CompletionChoice": ("GenerateChoice",),
        "TokenEntry": ("TokenLogprob",),
        "PositionEntry": ("PositionLogprobs", "TokenLogprob"),
        "PromptTokenEntry": ("PromptTokenLogprob", "TokenLogprob"),
        "PromptTokens": ("Usage",),
        "CompletionTokens": ("Usage",),
        "UsageAnswer": ("Usage",),
        "DetokenizeAnswer": ("DetokenizeResponse",),
        "ModelAnswer": ("Model",),
        "ModelInfo": ("Model",),
        "ServerInfo": ("Model",),
    }
)
"""By schema, the messages that have fields of the same name and meaning."""
_OWN = Path(__file__).with_suffix(".toml")
_ALL = "all"
"""The table of field_texts.toml for fields that several schemas have."""
_REFERENCE = re.compile(r"As in (\w+)[.;]")
_NAMES = {
    "INVALID_ARGUMENT": "400",
    "NOT_FOUND": "404",
    "FINISH_REASON_TOOL_CALLS": "`tool_calls`",
    "response_format_json": "response_format",
}
_INTERNAL = ("DecodeService", "internal session")
_DOORS: Mapping[str, Door] = MappingProxyType(
    {"ChatBody": "openai", "CompletionBody": "openai", "GenerateParams": "sglang"}
)


class FieldTexts:
    """Looks texts up; reads both sources once."""

    def __init__(self) -> None:
        self._proto = json.loads((files("perigee.v1") / "texts.json").read_text(encoding="utf-8"))
        own = tomllib.loads(_OWN.read_text(encoding="utf-8"))
        self._own: Mapping[str, Mapping[str, str]] = own
        self._controls = {
            # An inverted one means the opposite of its field in the message.
            schema: {control.spelt(door): "" if _inverted(control) else control.name for control in CONTROLS}
            for schema, door in _DOORS.items()
        }

    def text(self, schema: str, field: str) -> str | None:
        """The meaning of a field; None if no source has it."""
        if own := self._own.get(schema, {}).get(field):
            return own
        name = self._controls.get(schema, {}).get(field, field)
        for message in MESSAGES.get(schema, ()):
            if text := self._of_message(message, name):
                return text
        return self._own[_ALL].get(field)

    def _of_message(self, message: str, field: str) -> str | None:
        text: str | None = self._proto.get(message, {}).get(field)
        if text is None:
            return None
        reference = _REFERENCE.match(text)
        if reference and (other := self._of_message(reference[1], field)):
            return other
        return _for_rest(text)


def add_descriptions(components: Mapping[str, dict[str, Any]]) -> None:
    """Adds its description to every field of the schemas that has none."""
    texts = FieldTexts()
    for name, schema in components.items():
        for field, node in schema.get("properties", {}).items():
            if "description" not in node and (text := texts.text(name, field) or _within(node)):
                schema["properties"][field] = {"description": text, **node}


def _within(node: Mapping[str, Any]) -> str | None:
    """The description of the first alternative that has one."""
    alternatives = node.get("anyOf", ())
    return next((each["description"] for each in alternatives if "description" in each), None)


def _inverted(control: Control) -> bool:
    return isinstance(control, Flag) and control.inverted


def _for_rest(text: str) -> str:
    """With REST's names, and without sentences about the workers' own protocol."""
    for name, rest_name in _NAMES.items():
        text = text.replace(name, rest_name)
    sentences = re.split(r"(?<=\.) (?=[A-Z`])", text)
    return " ".join(sentence for sentence in sentences if not any(word in sentence for word in _INTERNAL))
