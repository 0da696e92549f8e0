"""A streamed answer that is being received, in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from perigee.client.errors import Cancelled
from perigee.client.status import error_of

Chunk = TypeVar("Chunk")
Whole = TypeVar("Whole")


class AsyncStream(Generic[Chunk, Whole]):
    """Iterates over the chunks of one answer, once. Closing it, or leaving its context, cancels the call.

    So does cancelling the task that waits for a chunk.
    """

    def __init__(self, call: Any, join: Callable[[Iterable[Chunk]], Whole]) -> None:
        self._call = call
        self._join = join
        self._chunks: list[Chunk] = []
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """Raises PerigeeError; Cancelled after `close`."""
        try:
            chunk: Any = await self._call.read()
        except grpc.RpcError as error:
            raise error_of(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise Cancelled("the stream was closed", code=grpc.StatusCode.CANCELLED) from None
            raise
        if chunk is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
            raise StopAsyncIteration
        received: Chunk = chunk
        self._chunks.append(received)
        return received

    def joined(self) -> Whole:
        """Returns what has been received until now as one answer, without waiting."""
        return self._join(self._chunks)

    async def read_all(self) -> Whole:
        """Receives the rest and returns the whole answer, earlier chunks included."""
        async for _ in self:
            pass
        return self.joined()

    def close(self) -> None:
        """Cancels the call, and the generation on every worker; does nothing after its end."""
        self._closed = True
        self._call.cancel()

    def __del__(self) -> None:
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
