"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from perigee.client.async_stream import AsyncStream
from perigee.client.call_settings import CallSettings
from perigee.client.channel import Keepalive, RetryPolicy, channel_options
from perigee.client.joining import join_chat, join_generate
from perigee.client.requests import Conversation, Prompt, chat_request, generate_request
from perigee.client.status import error_of
from perigee.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
)

AsyncChatStream = AsyncStream[chat_pb2.ChatChunk, chat_pb2.ChatResponse]
AsyncGenerateStream = AsyncStream[generation_pb2.GenerateChunk, generation_pb2.GenerateResponse]


class AsyncClient:
    """As Client, for one event loop: make it while that loop runs.

    The arguments are those of Client. Methods that return whole answers are coroutines; cancelling their task
    cancels the call. Those that return a stream are not.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50050",
        *,
        timeout_s: float | None = None,
        retry: RetryPolicy | None = RetryPolicy(),  # noqa: B008  # immutable
        keepalive: Keepalive | None = Keepalive(),  # noqa: B008  # immutable
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Mapping[str, str] | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        every = channel_options(retry, keepalive, options)
        self._channel = (
            grpc.aio.insecure_channel(address, every)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, every)
        )
        settings = CallSettings(timeout_s, metadata or {})
        self.chat = AsyncChat(self._channel, settings)
        self.generation = AsyncGeneration(self._channel, settings)
        self.models = AsyncModels(self._channel, settings)

    async def close(self) -> None:
        """Cancels all calls and closes the connection."""
        await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncChat:
    """ChatService. Messages and fields as in `perigee.client.requests.chat_request`."""

    def __init__(self, channel: grpc.aio.Channel, settings: CallSettings) -> None:
        self._stub = chat_pb2_grpc.ChatServiceStub(channel)
        self._settings = settings

    async def complete(
        self,
        messages: Conversation,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        **fields: Any,
    ) -> chat_pb2.ChatResponse:
        """Returns the complete answer."""
        request = chat_request(messages, fields)
        answer: chat_pb2.ChatResponse = await _called(
            self._stub.Complete, request, self._settings.arguments(timeout_s, request_id)
        )
        return answer

    def stream(
        self,
        messages: Conversation,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        **fields: Any,
    ) -> AsyncChatStream:
        """Starts the call and returns its answer as a stream."""
        request = chat_request(messages, fields)
        return AsyncStream(
            self._stub.Stream(request, **self._settings.arguments(timeout_s, request_id)), join_chat
        )


class AsyncGeneration:
    """GenerationService. Prompt and fields as in `perigee.client.requests.generate_request`."""

    def __init__(self, channel: grpc.aio.Channel, settings: CallSettings) -> None:
        self._stub = generation_pb2_grpc.GenerationServiceStub(channel)
        self._settings = settings

    async def generate(
        self, prompt: Prompt, *, timeout_s: float | None = None, request_id: str = "", **fields: Any
    ) -> generation_pb2.GenerateResponse:
        """Returns the complete continuation."""
        request = generate_request(prompt, fields)
        answer: generation_pb2.GenerateResponse = await _called(
            self._stub.Generate, request, self._settings.arguments(timeout_s, request_id)
        )
        return answer

    def stream(
        self, prompt: Prompt, *, timeout_s: float | None = None, request_id: str = "", **fields: Any
    ) -> AsyncGenerateStream:
        """Starts the call and returns its continuation as a stream."""
        request = generate_request(prompt, fields)
        call = self._stub.StreamGenerate(request, **self._settings.arguments(timeout_s, request_id))
        return AsyncStream(call, join_generate)

    async def tokenize(
        self,
        text: str,
        *,
        model: str = "",
        parse_special: bool = False,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> list[int]:
        """Returns the token ids of a text."""
        request = generation_pb2.TokenizeRequest(model=model, text=text, parse_special=parse_special)
        answer = await _called(self._stub.Tokenize, request, self._settings.arguments(timeout_s, request_id))
        return list(answer.token_ids)

    async def detokenize(
        self,
        token_ids: Sequence[int],
        *,
        model: str = "",
        skip_special: bool = False,
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> str:
        """Returns the text of token ids."""
        request = generation_pb2.DetokenizeRequest(
            model=model, token_ids=token_ids, skip_special=skip_special
        )
        answer = await _called(
            self._stub.Detokenize, request, self._settings.arguments(timeout_s, request_id)
        )
        return str(answer.text)


class AsyncModels:
    """ModelService."""

    def __init__(self, channel: grpc.aio.Channel, settings: CallSettings) -> None:
        self._stub = models_pb2_grpc.ModelServiceStub(channel)
        self._settings = settings

    async def list(
        self, *, timeout_s: float | None = None, request_id: str = ""
    ) -> Sequence[models_pb2.Model]:
        """Returns one entry per served name, the primary name first."""
        request = models_pb2.ListModelsRequest()
        answer = await _called(
            self._stub.ListModels, request, self._settings.arguments(timeout_s, request_id)
        )
        return tuple(answer.models)

    async def get(
        self, name: str = "", *, timeout_s: float | None = None, request_id: str = ""
    ) -> models_pb2.Model:
        """Returns the model served under a name; under the primary one for ""."""
        request = models_pb2.GetModelRequest(name=name)
        model: models_pb2.Model = await _called(
            self._stub.GetModel, request, self._settings.arguments(timeout_s, request_id)
        )
        return model


async def _called(method: Any, request: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return await method(request, **arguments)
    except grpc.RpcError as error:
        raise error_of(error) from error
