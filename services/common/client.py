"""A small synchronous client of ChatService."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc

from perigee.v1 import chat_pb2, chat_pb2_grpc, sampling_pb2
from services.common.rpc.status import from_rpc_error


@dataclass(frozen=True)
class ChatOptions:
    """Options of a request; None and "" select the server's default."""

    model: str = ""
    thinking: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class Reasoning:
    """New reasoning of a choice, to be appended."""

    text: str
    choice: int = 0


@dataclass(frozen=True)
class Content:
    """New answer text of a choice, to be appended."""

    text: str
    choice: int = 0


@dataclass(frozen=True)
class ToolCallPart:
    """A part of a tool call of a choice. `arguments` are to be appended; `id` and `name` come once."""

    index: int
    id: str
    name: str
    arguments: str
    choice: int = 0


@dataclass(frozen=True)
class Finished:
    """The end of a choice. `reason`: "stop", "length", "tool_calls", "cancelled" or "error"."""

    reason: str
    choice: int = 0


@dataclass(frozen=True)
class Used:
    """Token accounting; the last piece of an answer."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int


Piece = Reasoning | Content | ToolCallPart | Finished | Used


def user_message(text: str, images: Sequence[bytes] = ()) -> chat_pb2.Message:
    """A user's turn: encoded image files first, then the text."""
    parts = [chat_pb2.ContentPart(image=chat_pb2.Image(data=image)) for image in images]
    return chat_pb2.Message(role="user", content=[*parts, chat_pb2.ContentPart(text=text)])


def system_message(text: str) -> chat_pb2.Message:
    """What the model is told before a conversation."""
    return chat_pb2.Message(role="system", content=[chat_pb2.ContentPart(text=text)])


def assistant_message(text: str, reasoning: str = "") -> chat_pb2.Message:
    """An earlier turn of the model."""
    content = [chat_pb2.ContentPart(text=text)]
    return chat_pb2.Message(role="assistant", content=content, reasoning_content=reasoning)


class PerigeeClient:
    """Calls ChatService over the caller's channel, which it does not close. Failures raise PerigeeError."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = chat_pb2_grpc.ChatServiceStub(channel)

    def chat(
        self, messages: Sequence[chat_pb2.Message], options: ChatOptions | None = None
    ) -> Iterator[Piece]:
        """Yields the answer piece by piece. Closing the iterator early cancels the generation."""
        options = options or ChatOptions()
        call = self._stub.Stream(_request(messages, options), timeout=options.timeout_s)
        try:
            for chunk in call:
                yield from _pieces(chunk)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    def complete(
        self, messages: Sequence[chat_pb2.Message], options: ChatOptions | None = None
    ) -> chat_pb2.ChatResponse:
        """Returns the complete answer."""
        options = options or ChatOptions()
        try:
            response: chat_pb2.ChatResponse = self._stub.Complete(
                _request(messages, options), timeout=options.timeout_s
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return response


def _request(messages: Sequence[chat_pb2.Message], options: ChatOptions) -> chat_pb2.ChatRequest:
    sampling = sampling_pb2.SamplingParams(
        temperature=options.temperature, max_tokens=options.max_tokens, seed=options.seed
    )
    return chat_pb2.ChatRequest(
        model=options.model, messages=messages, sampling=sampling, thinking=options.thinking
    )


def _pieces(chunk: chat_pb2.ChatChunk) -> Iterator[Piece]:
    for delta in chunk.deltas:
        if delta.reasoning_content:
            yield Reasoning(delta.reasoning_content, delta.index)
        if delta.content:
            yield Content(delta.content, delta.index)
        for call in delta.tool_calls:
            yield ToolCallPart(call.index, call.id, call.name, call.arguments, delta.index)
        if delta.finish_reason:
            name = sampling_pb2.FinishReason.Name(delta.finish_reason)
            yield Finished(name.removeprefix("FINISH_REASON_").lower(), delta.index)
    if chunk.HasField("usage"):
        usage = chunk.usage
        yield Used(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens)
