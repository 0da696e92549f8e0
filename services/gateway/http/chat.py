"""POST /v1/chat/completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.gateway.admission import Ticket
from services.gateway.http import shape
from services.gateway.http.decode import BodyDecoder, in_thread_if_long
from services.gateway.http.reply import Reply
from services.gateway.http.schema import ChatBody
from services.gateway.http.translate import request_from_body
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.request import GenerationRequest


@dataclass(frozen=True)
class _Call:
    """What the body asked for."""

    request: GenerationRequest
    stream: bool
    include_usage: bool


class ChatEndpoint:
    """Answers chat bodies, streaming or not, through the pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._decoder = BodyDecoder(ChatBody)

    async def answer(self, body: bytes, ticket: Ticket, reply: Reply) -> None:
        """Raises what the pipeline raises, and InvalidRequest for a body that is none."""
        call = await in_thread_if_long(self._call, body)
        async with self._pipeline.open(call.request, ticket) as generation:
            if not call.stream:
                await reply.json(shape.completion(generation.head, await generation.answer()))
                return
            await self._stream(call, generation, reply)

    def _call(self, body: bytes) -> _Call:
        decoded = self._decoder.decode(body)
        options = decoded.stream_options
        return _Call(
            request=request_from_body(decoded),
            stream=bool(decoded.stream),
            include_usage=bool(options and options.include_usage),
        )

    async def _stream(self, call: _Call, generation: Generation, reply: Reply) -> None:
        """Nothing is sent before the first news, so that a failure until then has a status of its own."""
        head = generation.head
        dress = shape.without_usage if call.include_usage else _as_it_is
        async for delta in generation:
            if not reply.started:
                await reply.start_events()
                for index in range(call.request.sampling.n):
                    await reply.event(dress(shape.role_chunk(head, index)))
            await reply.event(dress(shape.delta_chunk(head, delta)))
        if call.include_usage:
            await reply.event(shape.usage_chunk(head, generation.usage))
        await reply.end_events()


def _as_it_is(chunk: dict[str, Any]) -> dict[str, Any]:
    return chunk
