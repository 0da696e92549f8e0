"""A streamed answer that is being received."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from perigee.client.status import error_of

Chunk = TypeVar("Chunk")
Whole = TypeVar("Whole")


class Stream(Generic[Chunk, Whole]):
    """Iterates over the chunks of one answer, once. Closing it, or leaving its context, cancels the call."""

    def __init__(self, call: Any, join: Callable[[Iterable[Chunk]], Whole]) -> None:
        self._call = call
        self._join = join
        self._chunks: list[Chunk] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        """Raises PerigeeError; Cancelled after `close`."""
        try:
            chunk: Chunk = next(self._call)
        except grpc.RpcError as error:
            raise error_of(error) from error
        self._chunks.append(chunk)
        return chunk

    def joined(self) -> Whole:
        """Returns what has been received until now as one answer, without waiting."""
        return self._join(self._chunks)

    def read_all(self) -> Whole:
        """Receives the rest and returns the whole answer, earlier chunks included."""
        for _ in self:
            pass
        return self.joined()

    def close(self) -> None:
        """Cancels the call, and the generation on every worker; does nothing after its end."""
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
