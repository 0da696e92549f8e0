"""Tensors out of a checkpoint, each by its published name of an unquantised model."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from services.common.errors import CheckpointError
from services.engine.weights.expected import StoredTensor, is_ignored, problems_of
from services.engine.weights.headers import TensorHeader, listed
from services.engine.weights.int4 import dequantise

_TORCH_DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "I32": torch.int32,
    "I64": torch.int64,
}
_PARTS = ("weight_packed", "weight_scale", "weight_shape")


def check_tensors(headers: Mapping[str, TensorHeader], expected: Mapping[str, StoredTensor]) -> None:
    """Raises a CheckpointError that lists missing, extra and misshapen tensors and those of another dtype."""
    if problems := problems_of(headers, expected):
        raise CheckpointError(f"{len(problems)} tensors do not fit the configuration: {listed(problems)}")


class TensorReader:
    """Reads from mapped files, from any thread; int4 weights are dequantised, so that `x.weight` is there
    whether or not the checkpoint packs it.
    """

    def __init__(
        self,
        directory: Path,
        headers: Mapping[str, TensorHeader],
        dtype: torch.dtype | None,
        device: torch.device | str = "cpu",
    ) -> None:
        """`dtype` None: as stored, float32 for int4."""
        self._directory = Path(directory)
        self._headers = headers
        self._dtype = dtype
        self._device = device

    def read(self, name: str) -> Tensor:
        """A tensor of its own memory, but for dtype None: that of the file, not to be written to."""
        if name in self._headers:
            stored = self._mapped(name)
            if self._dtype is None:
                return stored
            return _returnable(stored.shape, self._dtype).copy_(stored).to(self._device)
        packed, scale, shape = (self._mapped(part) for part in _parts(name))
        if shape.tolist() != [packed.shape[0], packed.shape[1] * 8]:
            raise CheckpointError(
                f"{name}_shape says {shape.tolist()}, {name}_packed has {list(packed.shape)}"
            )
        result = _returnable(torch.Size(shape.tolist()), self._dtype or torch.float32)
        return dequantise(packed, scale, result).to(self._device)

    def stored_bytes(self, name: str) -> int:
        """What reading it takes from the files."""
        parts = [name] if name in self._headers else _parts(name)
        return sum(self._headers[part].nbytes for part in parts)

    def _mapped(self, name: str) -> Tensor:
        """A mapping of its own per tensor: its pages are this process's only while the tensor lives."""
        header = self._headers[name]
        path = self._directory / header.shard
        begin = header.start - header.start % mmap.ALLOCATIONGRANULARITY
        try:
            with path.open("rb") as file:
                # A private copy, which nobody writes to: torch has no tensors that cannot be written.
                mapped = mmap.mmap(file.fileno(), header.end - begin, offset=begin, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        mapped.madvise(mmap.MADV_WILLNEED)
        values = torch.frombuffer(mapped, dtype=_TORCH_DTYPES[header.dtype], offset=header.start - begin)
        return values.view(header.shape)


def weight_names(headers: Mapping[str, TensorHeader], prefixes: str | tuple[str, ...]) -> list[str]:
    """What a reader of these headers can read, in the order of shards; int4 parts as one weight."""
    names: dict[str, None] = {}
    for name in sorted(headers, key=lambda name: (headers[name].shard, headers[name].start)):
        if name.startswith(prefixes) and not is_ignored(name):
            stem, _, last = name.rpartition(".")
            names[f"{stem}.weight" if last in _PARTS else name] = None
    return list(names)


def _returnable(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Memory that goes back to the system with the tensor: what an allocator keeps of many tensors, freed by
    other threads than took them, would be a good part of the model.
    """
    return torch.frombuffer(mmap.mmap(-1, shape.numel() * dtype.itemsize), dtype=dtype).view(shape)


def _parts(name: str) -> list[str]:
    return [f"{name.removesuffix('weight')}{part}" for part in _PARTS]
