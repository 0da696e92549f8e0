"""A Perigee gateway over gRPC."""

from __future__ import annotations

from typing import Any

import grpc

from perigee.client import AsyncClient, PerigeeError
from perigee.v1 import chat_pb2, sampling_pb2
from services.cli.bench.targets.target import Address, AskOptions
from services.cli.bench.targets.timeline import Timeline
from services.cli.bench.workload.ask import Ask
from services.common.errors import Unavailable

_PREFIX = "FINISH_REASON_"


class GrpcTarget:
    """All requests share one connection."""

    def __init__(self, address: Address, options: AskOptions) -> None:
        self._options = options
        self._client = AsyncClient(
            address.authority,
            timeout_s=options.timeout_s,
            retry=None,
            credentials=grpc.ssl_channel_credentials(options.ca) if address.tls else None,
            metadata={"authorization": f"Bearer {options.key}"} if options.key else None,
        )

    async def model(self) -> str:
        """Returns the served model's primary name. Raises Unavailable."""
        if self._options.model:
            return self._options.model
        try:
            return str((await self._client.models.get()).name)
        except PerigeeError as error:
            raise Unavailable(str(error)) from error

    async def ask(self, ask: Ask) -> Timeline:
        """Streams an answer of GenerationService for token ids, of ChatService for messages."""
        options = self._options
        fields: dict[str, Any] = {"model": options.model, "max_tokens": ask.max_tokens, "temperature": 0.0}
        if options.full_length:
            fields |= {"ignore_eos": True, "keep_special_tokens": not ask.messages}
        timeline = Timeline(options.clock())
        try:
            if ask.messages:
                fields |= {"tools": list(ask.tools) or None, **options.extra}
                chat = self._client.chat.stream(ask.messages, **fields)
                async for chat_chunk in chat:
                    self._take_chat(chat_chunk, timeline)
            else:
                stream = self._client.generation.stream(ask.token_ids, **fields, **options.extra)
                async for chunk in stream:
                    timeline.end = options.clock()
                    for delta in chunk.deltas:
                        timeline.add_text(timeline.end, delta.text, "")
                        _take_finish(delta.finish_reason, timeline)
                    _take_usage(chunk, timeline)
        except (PerigeeError, TypeError, ValueError) as error:
            timeline.error = str(error)
        timeline.end = timeline.end or options.clock()
        if not timeline.error and timeline.output_tokens is None:
            timeline.error = "the stream ended in the middle of the answer"
        return timeline

    async def close(self) -> None:
        """Ends the connection."""
        await self._client.close()

    def _take_chat(self, chunk: chat_pb2.ChatChunk, timeline: Timeline) -> None:
        at = timeline.end = self._options.clock()
        for delta in chunk.deltas:
            timeline.add_text(at, delta.content, delta.reasoning_content)
            for call in delta.tool_calls:
                timeline.add_call(at, call.index, call.id, call.name, call.arguments)
            _take_finish(delta.finish_reason, timeline)
        _take_usage(chunk, timeline)


def _take_finish(reason: int, timeline: Timeline) -> None:
    if reason:
        name = sampling_pb2.FinishReason.Name(reason)  # type: ignore[arg-type]
        timeline.answer.finish = name.removeprefix(_PREFIX).lower()


def _take_usage(chunk: Any, timeline: Timeline) -> None:
    if chunk.HasField("usage"):
        timeline.prompt_tokens = chunk.usage.prompt_tokens
        timeline.cached_tokens = chunk.usage.cached_tokens
        timeline.output_tokens = chunk.usage.completion_tokens
