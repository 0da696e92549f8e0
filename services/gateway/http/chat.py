"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import Receive, Scope, Send

from services.common.errors import InternalError, PerigeeError
from services.common.ids import request_id
from services.gateway.admission import Admission, Ticket
from services.gateway.http import shape
from services.gateway.http.body import read_body
from services.gateway.http.decode import ChatBodyDecoder
from services.gateway.http.disconnect import run_while_connected
from services.gateway.http.reply import Reply
from services.gateway.http.translate import request_from_body
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.request import GenerationRequest

log = structlog.get_logger()

# Below this, decoding takes less than the hop to a thread and back is worth.
_THREAD_BYTES = 1 << 17


@dataclass(frozen=True)
class _Call:
    """What the body asked for."""

    request: GenerationRequest
    stream: bool
    include_usage: bool


class ChatEndpoint:
    """An ASGI application, because it must hear of a disconnect in every phase, the queue included."""

    def __init__(
        self, pipeline: Pipeline, admission: Admission, max_body_bytes: int, body_timeout_s: float
    ) -> None:
        self._pipeline = pipeline
        self._admission = admission
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._decoder = ChatBodyDecoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = Reply(send)
        try:
            with self._admission.enter("rest") as ticket:
                body = await read_body(scope, receive, self._max_body_bytes, self._body_timeout_s)
                call = await self._decode(body)
                await run_while_connected(receive, self._answer(call, ticket, reply))
        except PerigeeError as error:
            await reply.fail(error)
        # Barrier: a defect in one request is answered and logged, and goes no further.
        except Exception:
            name = request_id()
            log.exception("chat completion failed", request_id=name)
            await reply.fail(InternalError(f"internal error, request id {name}"))

    async def _decode(self, body: bytes) -> _Call:
        if len(body) < _THREAD_BYTES:
            return self._call(body)
        return await asyncio.to_thread(self._call, body)

    def _call(self, body: bytes) -> _Call:
        decoded = self._decoder.decode(body)
        options = decoded.stream_options
        return _Call(
            request=request_from_body(decoded),
            stream=bool(decoded.stream),
            include_usage=bool(options and options.include_usage),
        )

    async def _answer(self, call: _Call, ticket: Ticket, reply: Reply) -> None:
        async with self._pipeline.open(call.request, ticket) as generation:
            if not call.stream:
                await reply.json(shape.completion(generation.head, await generation.answer()))
                return
            await self._stream(call, generation, reply)

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
