"""Streamed pieces joined to whole answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from perigee.v1 import chat_pb2, generation_pb2, sampling_pb2


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass
class _Choice:
    reasoning: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=lambda: defaultdict(_Call))
    finish_reason: sampling_pb2.FinishReason.ValueType = sampling_pb2.FINISH_REASON_UNSPECIFIED
    logprobs: list[sampling_pb2.PositionLogprobs] = field(default_factory=list)

    def add(self, delta: chat_pb2.ChatDelta) -> None:
        self.reasoning.append(delta.reasoning_content)
        self.content.append(delta.content)
        for piece in delta.tool_calls:
            call = self.calls[piece.index]
            call.id = call.id or piece.id
            call.name = call.name or piece.name
            call.arguments.append(piece.arguments)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.logprobs.extend(delta.logprobs)

    def joined(self, index: int) -> chat_pb2.ChatChoice:
        return chat_pb2.ChatChoice(
            index=index,
            reasoning_content="".join(self.reasoning),
            content="".join(self.content),
            tool_calls=[
                chat_pb2.ToolCall(id=call.id, name=call.name, arguments="".join(call.arguments))
                for _, call in sorted(self.calls.items())
            ],
            finish_reason=self.finish_reason,
            logprobs=self.logprobs,
        )


def join_chat(chunks: Iterable[chat_pb2.ChatChunk]) -> chat_pb2.ChatResponse:
    """Returns the answer that the chunks of one stream make.

    Equals that of `complete`. Of an unfinished stream it has no usage, and no finish reason in the choices
    that have not ended.
    """
    whole = chat_pb2.ChatResponse()
    choices: dict[int, _Choice] = defaultdict(_Choice)
    for chunk in chunks:
        whole.id, whole.model, whole.created = chunk.id, chunk.model, chunk.created
        for delta in chunk.deltas:
            choices[delta.index].add(delta)
        if chunk.HasField("usage"):
            whole.usage.CopyFrom(chunk.usage)
    whole.choices.extend(choice.joined(index) for index, choice in sorted(choices.items()))
    return whole


def join_generate(chunks: Iterable[generation_pb2.GenerateChunk]) -> generation_pb2.GenerateResponse:
    """Returns the continuation that the chunks of one stream make; otherwise as `join_chat`."""
    whole = generation_pb2.GenerateResponse()
    pieces: dict[int, list[generation_pb2.GenerateChoice]] = defaultdict(list)
    for chunk in chunks:
        whole.id = chunk.id
        whole.prompt_logprobs.extend(chunk.prompt_logprobs)
        for delta in chunk.deltas:
            pieces[delta.index].append(delta)
        if chunk.HasField("usage"):
            whole.usage.CopyFrom(chunk.usage)
    for index, deltas in sorted(pieces.items()):
        whole.choices.add(
            index=index,
            text="".join(delta.text for delta in deltas),
            token_ids=[token for delta in deltas for token in delta.token_ids],
            finish_reason=max(delta.finish_reason for delta in deltas),
            logprobs=[position for delta in deltas for position in delta.logprobs],
        )
    return whole
