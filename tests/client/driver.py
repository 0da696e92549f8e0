"""One way for a test to use both clients, and a scripted ChatService."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import time
from collections.abc import AsyncIterator
from typing import Any

from perigee.client import AsyncClient, AsyncStream, Client
from perigee.v1 import chat_pb2, chat_pb2_grpc
from tests.support.endpoints import build_server


class Driver:
    """Calls methods by path, such as "chat.complete"; the synchronous client works in threads."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def call(self, path: str, *args: Any, **fields: Any) -> Any:
        """The result of a method that is no stream."""
        method = operator.attrgetter(path)(self.client)
        if isinstance(self.client, AsyncClient):
            return await method(*args, **fields)
        return await asyncio.to_thread(method, *args, **fields)

    async def stream(self, path: str, *args: Any, **fields: Any) -> Any:
        """A started stream."""
        method = operator.attrgetter(path)(self.client)
        if isinstance(self.client, AsyncClient):
            return method(*args, **fields)
        return await asyncio.to_thread(method, *args, **fields)

    async def next(self, stream: Any) -> Any:
        """The next chunk; None at the end."""
        if isinstance(stream, AsyncStream):
            return await anext(stream, None)
        return await asyncio.to_thread(next, stream, None)

    async def read_all(self, stream: Any) -> Any:
        """The whole answer."""
        if isinstance(stream, AsyncStream):
            return await stream.read_all()
        return await asyncio.to_thread(stream.read_all)

    @contextlib.asynccontextmanager
    async def within(self, stream: Any) -> AsyncIterator[Any]:
        """The stream's own context."""
        if isinstance(stream, AsyncStream):
            async with stream:
                yield stream
        else:
            with stream:
                yield stream


@contextlib.asynccontextmanager
async def driving(kind: str, port: int, **settings: Any) -> AsyncIterator[Driver]:
    """A "sync" or "async" client of a local port."""
    address = f"127.0.0.1:{port}"
    if kind == "async":
        async with AsyncClient(address, **settings) as client:
            yield Driver(client)
    else:
        with Client(address, **settings) as client:
            yield Driver(client)


class ScriptedChat(chat_pb2_grpc.ChatServiceServicer):
    """Raises `errors`, one per attempt, then answers. A stream sends `first` chunks before its error."""

    def __init__(self, *errors: Exception, first: int = 0) -> None:
        self.errors = list(errors)
        self.first = first
        self.attempts: list[float] = []
        """When each attempt came, seconds."""

    async def Complete(self, request, context):
        self._attempt()
        return chat_pb2.ChatResponse(choices=[chat_pb2.ChatChoice(content="done")])

    async def Stream(self, request, context):
        for _ in range(self.first):
            yield _chunk("begun ")
        self._attempt()
        yield _chunk("done")

    def _attempt(self) -> None:
        self.attempts.append(time.monotonic())
        if self.errors:
            raise self.errors.pop(0)


def _chunk(content: str) -> chat_pb2.ChatChunk:
    return chat_pb2.ChatChunk(deltas=[chat_pb2.ChatDelta(content=content)])


@contextlib.asynccontextmanager
async def serving(chat: ScriptedChat, **options: Any) -> AsyncIterator[int]:
    """A server of this service alone; its port."""
    server = build_server(**options)
    chat_pb2_grpc.add_ChatServiceServicer_to_server(chat, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=None)
