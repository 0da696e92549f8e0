"""OpenAI's response objects."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from perigee.v1 import sampling_pb2
from services.families.conversation import ToolCall
from services.families.output import CallPiece
from services.gateway.http.shapes.chat import (
    ChatAnswer,
    ChatChoice,
    ChatLogprobs,
    FinishReason,
    FunctionAnswer,
    MessageAnswer,
    PositionEntry,
    ReasoningField,
    TokenEntry,
    ToolCallAnswer,
)
from services.gateway.http.shapes.chat_chunk import (
    ChatChunk,
    ChunkChoice,
    DeltaAnswer,
    FunctionDelta,
    ToolCallDelta,
)
from services.gateway.http.shapes.prompt_logprobs import PromptLogprobsAnswer
from services.gateway.http.shapes.usage import CompletionTokens, PromptTokens, UsageAnswer
from services.gateway.pipeline.output.answer import Answer, ChoiceAnswer
from services.gateway.pipeline.output.events import ChoiceDelta, Completion

FINISH: dict[int, FinishReason] = {
    sampling_pb2.FINISH_REASON_STOP: "stop",
    sampling_pb2.FINISH_REASON_LENGTH: "length",
    sampling_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


def completion(
    head: Completion,
    answer: Answer,
    reasoning: ReasoningField = "reasoning_content",
    prompt: PromptLogprobsAnswer | UnsetType = UNSET,
) -> ChatAnswer:
    """A `chat.completion`. `reasoning`: the name that reasoning has in it; `prompt`: log-probabilities."""
    return ChatAnswer(
        id=head.id,
        object="chat.completion",
        created=head.created,
        model=head.model,
        choices=[_choice(choice, reasoning) for choice in answer.choices],
        usage=usage(answer.usage),
        prompt_logprobs=prompt,
    )


def _choice(choice: ChoiceAnswer, reasoning: ReasoningField) -> ChatChoice:
    message = MessageAnswer(
        role="assistant",
        # Beside calls OpenAI has null for an empty content.
        content=choice.content or (None if choice.calls else ""),
        tool_calls=[_call(call) for call in choice.calls] or UNSET,
    )
    # Null if there is none: OpenAI's client raises on a field it does not know and was not sent.
    setattr(message, reasoning, choice.reasoning or None)
    return ChatChoice(choice.index, message, logprobs(choice.logprobs), FINISH[choice.finish_reason])


def _call(call: ToolCall) -> ToolCallAnswer:
    return ToolCallAnswer(call.id, "function", FunctionAnswer(call.name, call.arguments))


def _call_delta(piece: CallPiece) -> ToolCallDelta:
    if not piece.name:
        return ToolCallDelta(piece.index, FunctionDelta(piece.arguments))
    return ToolCallDelta(piece.index, FunctionDelta(piece.arguments, piece.name), piece.id, "function")


def role_chunk(head: Completion, index: int, usage: UsageAnswer | UnsetType | None = UNSET) -> ChatChunk:
    """A choice's first `chat.completion.chunk`."""
    first = DeltaAnswer(role="assistant", content="")
    return _chunk(head, [ChunkChoice(index, first, None, None)], usage)


def delta_chunk(
    head: Completion,
    delta: ChoiceDelta,
    usage: UsageAnswer | UnsetType | None = UNSET,
    reasoning: ReasoningField = "reasoning_content",
) -> ChatChunk:
    """The chunk of one delta. `reasoning`: the name that reasoning has in it."""
    fields = DeltaAnswer(
        content=delta.content or UNSET,
        tool_calls=[_call_delta(delta.call)] if delta.call else UNSET,
    )
    if delta.reasoning:
        setattr(fields, reasoning, delta.reasoning)
    finish = FINISH[delta.finish_reason] if delta.finish_reason else None
    return _chunk(head, [ChunkChoice(delta.index, fields, logprobs(delta.logprobs), finish)], usage)


def usage_chunk(head: Completion, counts: sampling_pb2.Usage) -> ChatChunk:
    """The last chunk when the client asked for usage: no choices."""
    return _chunk(head, [], usage(counts))


def usage(counts: sampling_pb2.Usage) -> UsageAnswer:
    """A `usage` object."""
    return UsageAnswer(
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        total_tokens=counts.prompt_tokens + counts.completion_tokens,
        prompt_tokens_details=PromptTokens(counts.cached_tokens, counts.image_tokens, counts.video_tokens),
        completion_tokens_details=CompletionTokens(counts.reasoning_tokens),
    )


def logprobs(positions: Sequence[sampling_pb2.PositionLogprobs]) -> ChatLogprobs | None:
    """A `logprobs` object; None where there is nothing to tell."""
    return ChatLogprobs([_position(position) for position in positions]) if positions else None


def _position(position: sampling_pb2.PositionLogprobs) -> PositionEntry:
    sampled = position.sampled
    top = [TokenEntry(token.token, token.logprob, list(token.token_bytes)) for token in position.top]
    return PositionEntry(sampled.token, sampled.logprob, list(sampled.token_bytes), top)


def _chunk(head: Completion, choices: list[ChunkChoice], usage: UsageAnswer | UnsetType | None) -> ChatChunk:
    return ChatChunk(head.id, "chat.completion.chunk", head.created, head.model, choices, usage)
