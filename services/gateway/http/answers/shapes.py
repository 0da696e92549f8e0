"""The shapes of answers, for http/openapi.py. Nothing else may be in them: a test compares every answer.

Null and absent mean the same where a field may be null.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Answer(Struct, forbid_unknown_fields=True):
    """Base of all."""


class ErrorDetail(Answer):
    """`param`: the guilty field as the caller spelt it; `code`: stable, for programs."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class ErrorAnswer(Answer):
    """Every failure; mid-stream the last event."""

    error: ErrorDetail


class PromptTokens(Answer):
    """Of the prompt's tokens."""

    cached_tokens: int
    image_tokens: int
    video_tokens: int


class CompletionTokens(Answer):
    """Of the generated tokens."""

    reasoning_tokens: int


class UsageAnswer(Answer):
    """Token accounting."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    completion_tokens_details: CompletionTokens


class TokenEntry(Answer):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class PositionEntry(TokenEntry):
    """The sampled token, and the likeliest."""

    top_logprobs: list[TokenEntry]


class ChatLogprobs(Answer):
    """One entry per token."""

    content: list[PositionEntry]
    refusal: None = None


class FunctionAnswer(Answer):
    """`arguments`: JSON text."""

    name: str
    arguments: str


class ToolCallAnswer(Answer):
    """A call the model made."""

    id: str
    type: Literal["function"]
    function: FunctionAnswer


class MessageAnswer(Answer):
    """The assistant's turn."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallAnswer] | None = None


FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(Answer):
    """One answer of n."""

    index: int
    message: MessageAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatAnswer(Answer):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageAnswer


class FunctionDelta(Answer):
    """`name`: once, whole; `arguments`: to be appended."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Answer):
    """`index`: of the call in this message; `id` and `type` come once."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class DeltaAnswer(Answer):
    """What is new of a message: reasoning, content or one call, never two; texts are to be appended."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(Answer):
    """What is new of one answer; a `finish_reason` comes with an empty delta."""

    index: int
    delta: DeltaAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Answer):
    """An event of a chat's stream; the last one when usage was asked for has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageAnswer | None = None


class CompletionLogprobs(Answer):
    """Lists that belong together, one entry per token; `text_offset`: where in the text it begins."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Answer):
    """One text; in a stream, what is new of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class CompletionAnswer(Answer):
    """A whole completion, or an event of its stream: only there is usage null, absent, or all there is."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageAnswer | None = None


class FinishAnswer(Answer):
    """`matched`: the token id or stop string that ended it; `length`: how many tokens there were."""

    type: Literal["stop", "length"]
    matched: int | str | None = None
    length: int | None = None


class MetaInfo(Answer):
    """Beside a text. A log-probability is a list: itself, the token's id, and its text if asked for."""

    id: str
    finish_reason: FinishAnswer | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    input_token_logprobs: list[list[Any]] | None = None
    output_token_logprobs: list[list[Any]] | None = None
    output_top_logprobs: list[list[list[Any]]] | None = None
    e2e_latency: float | None = None


class GenerateAnswer(Answer):
    """All there is of a text so far; `output_ids`: at its end; `index`: in a stream of several."""

    text: str
    meta_info: MetaInfo
    output_ids: list[int] | None = None
    index: int | None = None


class TokenizeAnswer(Answer):
    """`max_model_len`: null where it is not known; `text`: the rendered prompt."""

    tokens: list[int]
    count: int
    max_model_len: int | None
    text: str


class DetokenizeAnswer(Answer):
    """The same text twice, for two kinds of clients."""

    text: str
    prompt: str


class ModelAnswer(Answer):
    """A served name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    max_model_len: int | None


class ModelsAnswer(Answer):
    """All served names."""

    object: Literal["list"]
    data: list[ModelAnswer]


class ModelInfo(Answer):
    """What is served. `model_path`: the directory, as configured."""

    model_path: str
    tokenizer_path: str
    served_model_name: str
    is_generation: bool
    has_image_understanding: bool
    max_model_len: int | None
    vocab_size: int


class WorkerEntry(Answer):
    """A worker, and its load if it is reachable."""

    role: str
    address: str
    state: str
    running: int | None = None
    waiting: int | None = None
    free_pages: int | None = None


class ServerInfo(ModelInfo):
    """What is served, and by whom."""

    version: str
    internal_states: list[dict[str, Any]]
    workers: list[WorkerEntry]


class HealthAnswer(Answer):
    """`status`: ok while text can be served; `text`, `images` (and videos): what can be served now;
    `missing`: configured roles that nobody serves; `workers`: address to state.
    """

    status: Literal["ok", "unavailable", "stopping"]
    text: bool
    images: bool
    missing: list[str]
    tokenizer_only: bool
    workers: dict[str, str]
