"""Reads tensors in parallel, ahead of the code that builds a model from them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from torch import Tensor

from services.engine.weights.loader import TensorReader
from services.engine.weights.progress import LoadProgress

READERS = 4
"""Most tensors at any time that are being read, or have been and wait."""


class StreamedTensors(Mapping[str, Tensor]):
    """A mapping that holds at most `readers` tensors and keeps none that it has returned.

    `names` must be in the order of access; another order only costs time. A second access reads the tensor
    again. For one thread; a context manager, whose end stops the reading.
    """

    def __init__(
        self, reader: TensorReader, names: Sequence[str], progress: LoadProgress, readers: int = READERS
    ) -> None:
        self._reader = reader
        self._names = dict.fromkeys(names)
        self._waiting = OrderedDict(self._names)
        self._ahead: dict[str, Future[Tensor]] = {}
        self._readers = readers
        self._pool = ThreadPoolExecutor(readers, "weights")
        self._progress = progress
        self._read_bytes = 0

    @property
    def read_bytes(self) -> int:
        """Bytes that the tensors returned so far took from the files."""
        return self._read_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._ahead.clear()
        self._progress.close()

    def __getitem__(self, name: str) -> Tensor:
        """Waits for the tensor; raises CheckpointError if it cannot be read."""
        if name not in self._names:
            raise KeyError(name)
        future = self._ahead.pop(name, None)
        self._waiting.pop(name, None)
        # Together with this one, no more than `readers`.
        self._read_ahead(self._readers - 1)
        tensor = self._reader.read(name) if future is None else future.result()
        self._read_ahead(self._readers)
        nbytes = self._reader.stored_bytes(name)
        self._read_bytes += nbytes
        self._progress.advance(self._reader.shard(name), nbytes)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _read_ahead(self, most: int) -> None:
        while self._waiting and len(self._ahead) < most:
            name, _ = self._waiting.popitem(last=False)
            self._ahead[name] = self._pool.submit(self._reader.read, name)
