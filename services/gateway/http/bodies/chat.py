"""The body of POST /v1/chat/completions, as decoded by msgspec: types are strict, unknown fields are ignored.

Null means absent everywhere. What a field means and its range: protos/perigee/v1/{chat,sampling}.proto.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from services.gateway.constraint.response_format import ResponseFormatBody
from services.gateway.http.bodies.known_fields import KnownFields
from services.gateway.http.bodies.sampling_fields import with_controls


class UrlBody(Struct):
    """A URL of `data:`, `http:` or `https:`. `detail` is ignored: the model has one rule for all sizes."""

    url: str
    detail: str | None = None


class PartBody(Struct):
    """One piece of content: `text`, `image_url` or `video_url`."""

    type: str
    text: str | None = None
    image_url: UrlBody | str | None = None
    video_url: UrlBody | str | None = None


class FunctionBody(Struct):
    """The function of a past call; `arguments` is JSON text, or already a value, usually an object."""

    name: str = ""
    arguments: Any = None


class ToolCallBody(Struct):
    """A past call of a tool."""

    function: FunctionBody
    id: str | None = None
    type: str = "function"


class MessageBody(Struct):
    """One turn of the conversation. `partial`: the answer goes on with this message, the last one."""

    role: str
    content: str | list[PartBody] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    partial: bool | None = None


class StreamOptionsBody(Struct):
    """Only with `stream`. Usage in a last chunk without choices, or so far, in every chunk."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class ThinkingBody(Struct):
    """Moonshot's switch: `enabled` or `disabled`."""

    type: str


class TemplateBody(Struct):
    """The self-hosted engines' switch."""

    thinking: bool | None = None


@with_controls("openai")
class ChatBody(KnownFields, kw_only=True):
    """The request. The first block is served; of the second, and of KnownFields, what changes the answer
    is refused.
    """

    messages: list[MessageBody]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    thinking: ThinkingBody | None = None
    chat_template_kwargs: TemplateBody | None = None
    reasoning_effort: str | None = None
    cache_salt: str | None = None
    separate_reasoning: bool | None = None
    stream_reasoning: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    response_format: ResponseFormatBody | None = None
    parallel_tool_calls: bool | None = None
    regex: str | None = None
    ebnf: str | None = None

    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None
    best_of: int | None = None
    echo: bool | None = None
    chat_template: Any = None
    documents: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    include_reasoning: bool | None = None
    thinking_token_budget: int | None = None
    verbosity: str | None = None
    store: bool | None = None
    input_ids: Any = None
