"""OpenAI's response objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perigee.v1 import sampling_pb2
from services.families.kimi.output.calls import FinishedCall
from services.gateway.pipeline.output.answer import Answer, ChoiceAnswer
from services.gateway.pipeline.output.events import ChoiceDelta, Completion

FINISH = {
    sampling_pb2.FINISH_REASON_STOP: "stop",
    sampling_pb2.FINISH_REASON_LENGTH: "length",
    sampling_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


def completion(head: Completion, answer: Answer) -> dict[str, Any]:
    """A `chat.completion`."""
    return {
        **_head(head, "chat.completion"),
        "choices": [_choice(choice) for choice in answer.choices],
        "usage": usage(answer.usage),
    }


def _choice(choice: ChoiceAnswer) -> dict[str, Any]:
    # Beside calls OpenAI has null for an empty content.
    content = choice.content or (None if choice.calls else "")
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        # Null if there is none: OpenAI's client raises on a field it does not know and was not sent.
        "reasoning_content": choice.reasoning or None,
    }
    if choice.calls:
        message["tool_calls"] = [_call(call) for call in choice.calls]
    return {
        "index": choice.index,
        "message": message,
        "logprobs": logprobs(choice.logprobs),
        "finish_reason": FINISH[choice.finish_reason],
    }


def _call(call: FinishedCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def role_chunk(head: Completion, index: int) -> dict[str, Any]:
    """A choice's first `chat.completion.chunk`."""
    return _chunk(head, index, {"role": "assistant", "content": ""})


def delta_chunk(head: Completion, delta: ChoiceDelta) -> dict[str, Any]:
    """The chunk of one delta."""
    fields: dict[str, Any] = {}
    if delta.reasoning:
        fields["reasoning_content"] = delta.reasoning
    if delta.content:
        fields["content"] = delta.content
    if delta.call:
        fields["tool_calls"] = [{"index": delta.call.index, **_call(delta.call)}]
    finish = FINISH[delta.finish_reason] if delta.finish_reason else None
    return _chunk(head, delta.index, fields, logprobs(delta.logprobs), finish)


def usage_chunk(head: Completion, counts: sampling_pb2.Usage) -> dict[str, Any]:
    """The last chunk when the client asked for usage: no choices."""
    return {**_head(head, "chat.completion.chunk"), "choices": [], "usage": usage(counts)}


def usage(counts: sampling_pb2.Usage) -> dict[str, Any]:
    """A `usage` object."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": counts.cached_tokens,
            "image_tokens": counts.image_tokens,
            "video_tokens": counts.video_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    }


def logprobs(positions: Sequence[sampling_pb2.PositionLogprobs]) -> dict[str, Any] | None:
    """A `logprobs` object; None where there is nothing to tell."""
    if not positions:
        return None
    content = [
        {**_token(position.sampled), "top_logprobs": [_token(token) for token in position.top]}
        for position in positions
    ]
    return {"content": content, "refusal": None}


def _token(token: sampling_pb2.TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.token_bytes)}


def _head(head: Completion, kind: str) -> dict[str, Any]:
    return {"id": head.id, "object": kind, "created": head.created, "model": head.model}


def _chunk(
    head: Completion,
    index: int,
    delta: dict[str, Any],
    logprobs: dict[str, Any] | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    return {**_head(head, "chat.completion.chunk"), "choices": [choice]}
