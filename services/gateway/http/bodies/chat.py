"""The body of POST /v1/chat/completions, as decoded by msgspec: types are strict, unknown fields are ignored.

Null means absent everywhere. What a field means and its range: protos/perigee/v1/{chat,sampling}.proto.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Struct

from services.gateway.constraint.response_format import ResponseFormatField
from services.gateway.http.bodies.fields.known import KnownFields
from services.gateway.http.bodies.fields.limited import (
    SOME,
    CallTypeField,
    EffortField,
    MaxTokensField,
    RoleField,
    SaltField,
    ToolChoiceField,
    ToolField,
    TopField,
)
from services.gateway.http.bodies.fields.nested import (
    ReasoningField,
    StreamOptionsField,
    TemplateField,
    ThinkingField,
    UrlField,
)
from services.gateway.http.bodies.fields.sampling import with_controls


class PartBody(Struct):
    """One piece of content. `type`: `text` (also `input_text` and `output_text`), `refusal`, which is the
    assistant's text, `image_url` or `video_url`.
    """

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: UrlField | str | None = None
    video_url: UrlField | str | None = None


class FunctionBody(Struct):
    """The function of a past call; `arguments` is JSON text, or already a value, usually an object."""

    name: str | None = None
    arguments: Any = None


class ToolCallBody(Struct):
    """A past call of a tool."""

    function: FunctionBody
    id: str | None = None
    type: CallTypeField | None = None


class ReasoningDetailBody(Struct):
    """A piece of past reasoning; only `reasoning.text` has any that the model can read."""

    type: str | None = None
    text: str | None = None


REFUSED_IN_MESSAGES = ("function_call", "audio")


class MessageBody(Struct):
    """One turn of the conversation. `partial`: the answer goes on with this message, the last one.

    Past reasoning is `reasoning_content` or `reasoning`, whichever the model profile reads first, or else
    `reasoning_details`.
    `refusal` is the assistant's text where there is no content.
    """

    role: RoleField
    content: str | list[PartBody] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[ReasoningDetailBody] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    partial: bool | None = None

    function_call: Any = None
    audio: Any = None


@with_controls("openai")
class ChatBody(KnownFields, kw_only=True):
    """A conversation, and how it goes on. Null means absent."""

    messages: Annotated[list[MessageBody], SOME]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptionsField | None = None
    max_tokens: MaxTokensField | None = None
    max_completion_tokens: MaxTokensField | None = None
    logprobs: bool | None = None
    top_logprobs: TopField | None = None
    prompt_logprobs: TopField | None = None
    tools: list[ToolField] | None = None
    tool_choice: ToolChoiceField | None = None
    thinking: ThinkingField | None = None
    chat_template_kwargs: TemplateField | None = None
    enable_thinking: bool | None = None
    preserve_thinking: bool | None = None
    reasoning: ReasoningField | None = None
    reasoning_effort: EffortField | None = None
    cache_salt: SaltField | None = None
    separate_reasoning: bool | None = None
    stream_reasoning: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    response_format: ResponseFormatField | None = None
    parallel_tool_calls: bool | None = None
    regex: str | None = None
    ebnf: str | None = None

    # Not supported, as KnownFields are not.
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
    thinking_budget: int | None = None
    verbosity: str | None = None
    store: bool | None = None
    input_ids: Any = None
