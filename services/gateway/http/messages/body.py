"""The bodies of POST /v1/messages and /v1/messages/count_tokens. Null means absent everywhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from services.common.sampling.controls import MOST_INT32
from services.gateway.http.bodies.fields.limited import SOME, MaxTokensField

# Checked with the other sampling controls; described here.
TemperatureField: TypeAlias = Annotated[float, Meta(extra_json_schema={"minimum": 0, "maximum": 2})]
TopPField: TypeAlias = Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": 1})]
TopKField: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": -1, "maximum": MOST_INT32})]
_StopText: TypeAlias = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 256})]
StopField: TypeAlias = Annotated[list[_StopText], Meta(extra_json_schema={"maxItems": 16})]


class Base64Source(Struct, tag_field="type", tag="base64"):
    """A file. `media_type` is not read: files say what they are."""

    data: str
    media_type: str | None = None


class UrlSource(Struct, tag_field="type", tag="url"):
    """A file elsewhere, or a `data:` URL."""

    url: str


class TextBlock(Struct, tag_field="type", tag="text"):
    """Text."""

    text: str
    cache_control: Any = None
    citations: Any = None


class ImageBlock(Struct, tag_field="type", tag="image"):
    """An image."""

    source: Base64Source | UrlSource
    cache_control: Any = None


class DocumentBlock(Struct, tag_field="type", tag="document"):
    """Not supported."""


class ToolResultBlock(Struct, tag_field="type", tag="tool_result"):
    """User turns: what a call gave."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool | None = None
    cache_control: Any = None


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    """Assistant turns: a past call."""

    id: str
    name: str
    input: dict[str, Any]
    cache_control: Any = None
    caller: Any = None


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    """Assistant turns: past reasoning."""

    thinking: str
    signature: str | None = None
    cache_control: Any = None


class RedactedThinkingBlock(Struct, tag_field="type", tag="redacted_thinking"):
    """Assistant turns: reasoning that nobody here can read."""

    data: str | None = None


AnyBlock = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | ToolResultBlock
    | ToolUseBlock
    | ThinkingBlock
    | RedactedThinkingBlock
)


class TurnBody(Struct):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[AnyBlock]


class MessagesToolBody(Struct):
    """A function that the model may call. Tools of other types than `custom` are not shown to the model."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: Any = None


class AutoChoice(Struct, tag_field="type", tag="auto"):
    """The model decides."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(Struct, tag_field="type", tag="any"):
    """At least one call."""

    disable_parallel_tool_use: bool | None = None


class ToolChoiceBody(Struct, tag_field="type", tag="tool"):
    """One call of this tool."""

    name: str
    disable_parallel_tool_use: bool | None = None


class NoChoice(Struct, tag_field="type", tag="none"):
    """No call: the model sees no tools."""


class ThinkingSwitch(Struct):
    """Whether the model reasons first."""

    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: int | None = None
    display: str | None = None


class AnswerSchema(Struct, tag_field="type", tag="json_schema"):
    """The form of an answer that is no call."""

    schema: dict[str, Any]


class OutputConfig(Struct):
    """How the answer is to be."""

    effort: str | None = None
    format: AnswerSchema | None = None


class CountBody(Struct, kw_only=True):
    """A conversation whose tokens are counted: a body of /v1/messages is one, too."""

    model: str | None = None
    messages: Annotated[list[TurnBody], SOME]
    system: str | list[TextBlock] | None = None
    tools: list[MessagesToolBody] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoiceBody | NoChoice | None = None
    thinking: ThinkingSwitch | None = None
    output_config: OutputConfig | None = None
    cache_control: Any = None


class MessagesBody(CountBody, kw_only=True):
    """A conversation, and how it goes on."""

    max_tokens: MaxTokensField
    stream: bool | None = None
    temperature: TemperatureField | None = None
    top_p: TopPField | None = None
    top_k: TopKField | None = None
    stop_sequences: StopField | None = None
    metadata: Any = None
    service_tier: str | None = None
