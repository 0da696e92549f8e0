"""ChatService: the typed chat door."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.families.model_profile import ModelProfile
from services.families.output import CallPiece
from services.gateway.pipeline.output.answer import ChoiceAnswer
from services.gateway.pipeline.output.events import ChoiceDelta, Completion
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.rpc.calls import Calls, Context
from services.gateway.rpc.translate import request_from_chat, translated


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Both rpcs walk the same pipeline; errors become statuses in the server's interceptor."""

    def __init__(self, pipeline: Pipeline, calls: Calls, silence_s: float, profile: ModelProfile) -> None:
        """`silence_s`: after so many seconds a stream begins even if no worker has accepted it; `profile`:
        the served model's.
        """
        self._pipeline = pipeline
        self._calls = calls
        self._silence_s = silence_s
        self._translate = functools.partial(request_from_chat, profile)

    async def Complete(self, request: chat_pb2.ChatRequest, context: Context) -> chat_pb2.ChatResponse:
        async with self._calls.enter(context, "ChatService/Complete") as ticket:
            call = await translated(self._translate, request, context.time_remaining())
            async with self._pipeline.open(call, ticket) as generation:
                answer, head = await generation.answer(), generation.head
        return chat_pb2.ChatResponse(
            id=head.id,
            model=head.model,
            created=head.created,
            choices=[_choice(choice) for choice in answer.choices],
            usage=answer.usage,
        )

    async def Stream(
        self, request: chat_pb2.ChatRequest, context: Context
    ) -> AsyncIterator[chat_pb2.ChatChunk | None]:
        async with self._calls.enter(context, "ChatService/Stream") as ticket:
            call = await translated(self._translate, request, context.time_remaining())
            async with self._pipeline.open(call, ticket) as generation:
                await generation.accepted(self._silence_s)
                yield None  # the call begins
                async for delta in generation:
                    yield _chunk(generation.head, deltas=[_delta(delta)])
                yield _chunk(generation.head, usage=generation.usage)


def _chunk(head: Completion, **fields: object) -> chat_pb2.ChatChunk:
    return chat_pb2.ChatChunk(id=head.id, model=head.model, created=head.created, **fields)  # type: ignore[arg-type]


def _choice(choice: ChoiceAnswer) -> chat_pb2.ChatChoice:
    return chat_pb2.ChatChoice(
        index=choice.index,
        reasoning_content=choice.reasoning,
        content=choice.content,
        tool_calls=[
            chat_pb2.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in choice.calls
        ],
        finish_reason=choice.finish_reason,
        logprobs=choice.logprobs,
    )


def _call_delta(piece: CallPiece) -> chat_pb2.ToolCallDelta:
    return chat_pb2.ToolCallDelta(index=piece.index, id=piece.id, name=piece.name, arguments=piece.arguments)


def _delta(delta: ChoiceDelta) -> chat_pb2.ChatDelta:
    return chat_pb2.ChatDelta(
        index=delta.index,
        reasoning_content=delta.reasoning,
        content=delta.content,
        tool_calls=[_call_delta(delta.call)] if delta.call else [],
        finish_reason=delta.finish_reason,
        logprobs=delta.logprobs,
    )
