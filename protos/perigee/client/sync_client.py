"""The synchronous client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from perigee.client.call_settings import CallSettings
from perigee.client.channel import Keepalive, RetryPolicy, channel_options
from perigee.client.joining import join_chat, join_generate
from perigee.client.requests import Conversation, Prompt, chat_request, generate_request
from perigee.client.status import error_of
from perigee.client.sync_stream import Stream
from perigee.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
)

ChatStream = Stream[chat_pb2.ChatChunk, chat_pb2.ChatResponse]
GenerateStream = Stream[generation_pb2.GenerateChunk, generation_pb2.GenerateResponse]


class Client:
    """Calls one gateway at `host:port`. Threads may share it. Close it, or use it as a context.

    `timeout_s`: seconds until a call's deadline, None for none, and each call may have its own; `retry`: None
    for no retries; `keepalive`: None for gRPC's defaults; `credentials`: for TLS, if a proxy in front of the
    gateway asks for it; `metadata`: sent with every call; `options`: further ones of the gRPC channel.

    Every method of `chat`, `generation` and `models` raises PerigeeError and takes `timeout_s` and
    `request_id`, the call's name in the gateway's log (1 to 128 of letters, digits and `._-`).
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
            grpc.insecure_channel(address, every)
            if credentials is None
            else grpc.secure_channel(address, credentials, every)
        )
        settings = CallSettings(timeout_s, metadata or {})
        self.chat = Chat(self._channel, settings)
        self.generation = Generation(self._channel, settings)
        self.models = Models(self._channel, settings)

    def close(self) -> None:
        """Cancels all calls and closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Chat:
    """ChatService. Messages and fields as in `perigee.client.requests.chat_request`."""

    def __init__(self, channel: grpc.Channel, settings: CallSettings) -> None:
        self._stub = chat_pb2_grpc.ChatServiceStub(channel)
        self._settings = settings

    def complete(
        self,
        messages: Conversation,
        *,
        timeout_s: float | None = None,
        request_id: str = "",
        **fields: Any,
    ) -> chat_pb2.ChatResponse:
        """Returns the complete answer."""
        request = chat_request(messages, fields)
        answer: chat_pb2.ChatResponse = _called(
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
    ) -> ChatStream:
        """Starts the call and returns its answer as a stream."""
        request = chat_request(messages, fields)
        return Stream(
            self._stub.Stream(request, **self._settings.arguments(timeout_s, request_id)), join_chat
        )


class Generation:
    """GenerationService. Prompt and fields as in `perigee.client.requests.generate_request`."""

    def __init__(self, channel: grpc.Channel, settings: CallSettings) -> None:
        self._stub = generation_pb2_grpc.GenerationServiceStub(channel)
        self._settings = settings

    def generate(
        self, prompt: Prompt, *, timeout_s: float | None = None, request_id: str = "", **fields: Any
    ) -> generation_pb2.GenerateResponse:
        """Returns the complete continuation."""
        request = generate_request(prompt, fields)
        answer: generation_pb2.GenerateResponse = _called(
            self._stub.Generate, request, self._settings.arguments(timeout_s, request_id)
        )
        return answer

    def stream(
        self, prompt: Prompt, *, timeout_s: float | None = None, request_id: str = "", **fields: Any
    ) -> GenerateStream:
        """Starts the call and returns its continuation as a stream."""
        request = generate_request(prompt, fields)
        call = self._stub.StreamGenerate(request, **self._settings.arguments(timeout_s, request_id))
        return Stream(call, join_generate)

    def tokenize(
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
        answer = _called(self._stub.Tokenize, request, self._settings.arguments(timeout_s, request_id))
        return list(answer.token_ids)

    def detokenize(
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
        answer = _called(self._stub.Detokenize, request, self._settings.arguments(timeout_s, request_id))
        return str(answer.text)


class Models:
    """ModelService."""

    def __init__(self, channel: grpc.Channel, settings: CallSettings) -> None:
        self._stub = models_pb2_grpc.ModelServiceStub(channel)
        self._settings = settings

    def list(self, *, timeout_s: float | None = None, request_id: str = "") -> Sequence[models_pb2.Model]:
        """Returns one entry per served name, the primary name first."""
        request = models_pb2.ListModelsRequest()
        answer = _called(self._stub.ListModels, request, self._settings.arguments(timeout_s, request_id))
        return tuple(answer.models)

    def get(
        self, name: str = "", *, timeout_s: float | None = None, request_id: str = ""
    ) -> models_pb2.Model:
        """Returns the model served under a name; under the primary one for ""."""
        request = models_pb2.GetModelRequest(name=name)
        model: models_pb2.Model = _called(
            self._stub.GetModel, request, self._settings.arguments(timeout_s, request_id)
        )
        return model


def _called(method: Any, request: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return method(request, **arguments)
    except grpc.RpcError as error:
        raise error_of(error) from error
