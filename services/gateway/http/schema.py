"""The body of POST /v1/chat/completions, as decoded by msgspec: types are strict, unknown fields are ignored.

Null means absent everywhere. What a field means and its range: protos/perigee/v1/{chat,sampling}.proto.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from services.gateway.chat.constraint.response_format import ResponseFormatBody


class UrlBody(Struct):
    """A `data:` URL; `detail` is accepted and ignored (the model has one resolution rule)."""

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
    """One turn of the conversation."""

    role: str
    content: str | list[PartBody] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None


class StreamOptionsBody(Struct):
    """Only with `stream`."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class ThinkingBody(Struct):
    """Moonshot's switch: `enabled` or `disabled`."""

    type: str


class TemplateBody(Struct):
    """The self-hosted engines' switch."""

    thinking: bool | None = None


class ChatBody(Struct):
    """The whole request. The first block is served; of the second, what changes the answer is refused."""

    messages: list[MessageBody]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    thinking: ThinkingBody | None = None
    chat_template_kwargs: TemplateBody | None = None
    reasoning_effort: str | None = None
    cache_salt: str | None = None
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
    use_beam_search: bool | None = None
    length_penalty: float | None = None
    echo: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template: Any = None
    documents: Any = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    no_stop_trim: bool | None = None
    stop_regex: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    prompt_logprobs: int | None = None
    truncate_prompt_tokens: int | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[int] | None = None
    separate_reasoning: bool | None = None
    include_reasoning: bool | None = None
    lora_path: Any = None
    input_ids: Any = None
