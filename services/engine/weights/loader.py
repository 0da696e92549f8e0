"""Reads tensors from a checkpoint, each by its published name in an unquantised model."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from services.common.errors import CheckpointError
from services.engine.host_copy import Staging
from services.engine.weights.expected import ROUTER_BIAS, WORD_VALUES, is_ignored
from services.engine.weights.headers import DTYPE_BYTES, TensorHeader
from services.engine.weights.int4 import dequantise
from services.engine.weights.share import Share

_TORCH_DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "I32": torch.int32,
    "I64": torch.int64,
}
_PARTS = ("weight_packed", "weight_scale", "weight_shape")


class TensorReader:
    """Reads from mapped files, on any thread. Dequantises int4 weights, so that `x.weight` exists whether or
    not the checkpoint packs it; reads their parts unchanged if given the parts' own names.
    """

    def __init__(
        self,
        directory: Path,
        headers: Mapping[str, TensorHeader],
        dtype: torch.dtype | None,
        device: torch.device | str = "cpu",
        shares: Mapping[str, Share] = MappingProxyType({}),
    ) -> None:
        """`dtype` of all floats except the routers' biases, which are float32 as published; None: as stored,
        float32 for int4. Reads only the share of a tensor in `shares`, and all of any other.
        """
        self._directory = Path(directory)
        self._headers = headers
        self._dtype = dtype
        self._device = torch.device(device)
        self._staging = Staging(self._device) if self._device.type == "cuda" else None
        self._shares = shares

    def read(self, name: str) -> Tensor:
        """A tensor in its own memory; with dtype None in that of the file, which must not be written to.

        Raises CheckpointError, which names tensor and file, for values that are NaN or Inf.
        """
        if name in self._headers:
            stored = self._mapped(name)
            if name.endswith("weight_shape"):
                self._check_shape(name, stored)
            if self._dtype is None:
                self._check_finite(name, stored)
                return stored
            dtype = _dtype_of(name, stored, self._dtype)
            if self._staging is not None:
                copied = self._staging.copy(stored, dtype)
            else:
                copied = _returnable(stored.shape, dtype).copy_(stored).to(self._device)
            self._check_finite(name, copied)
            return copied
        packed, scale, shape = map(self._mapped, _parts(name))
        self._check_shape(f"{name}_shape", shape)
        self._check_finite(f"{name}_scale", scale)
        size = torch.Size((packed.shape[0], packed.shape[1] * WORD_VALUES))
        return dequantise(packed, scale, _returnable(size, self._dtype or torch.float32)).to(self._device)

    def stored_bytes(self, name: str) -> int:
        """Bytes that reading it takes from the files."""
        parts = [name] if name in self._headers else _parts(name)
        return sum(self._share(part).values * DTYPE_BYTES[self._headers[part].dtype] for part in parts)

    def shard(self, name: str) -> str:
        """The file that it is read from."""
        return self._headers[name if name in self._headers else _parts(name)[0]].shard

    def bytes_by_shard(self, names: Iterable[str]) -> dict[str, int]:
        """Bytes that reading all of them takes from each file."""
        found: dict[str, int] = {}
        for name in names:
            shard = self.shard(name)
            found[shard] = found.get(shard, 0) + self.stored_bytes(name)
        return found

    def _check_shape(self, name: str, stored: Tensor) -> None:
        packed = name.removesuffix("shape") + "packed"
        rows, words = self._headers[packed].shape
        if stored.tolist() != [rows, words * WORD_VALUES]:
            raise CheckpointError(f"{name} says {stored.tolist()}, {packed} has {[rows, words]}")

    def _check_finite(self, name: str, values: Tensor) -> None:
        """One such value would spoil every answer, silently."""
        # The sum of all values is NaN or Inf if one of them is, and the cheapest look at all. It may also be
        # too large for the dtype: hence the second, exact look.
        if not values.is_floating_point() or math.isfinite(values.sum().item()):
            return
        if not (finite := torch.isfinite(values)).all():
            path = self._directory / self._headers[name].shard
            wrong = values.numel() - int(finite.sum())
            raise CheckpointError(
                f"{path}: {wrong} of {values.numel()} values of {name} are NaN or Inf in {values.dtype};"
                " compare the file with its source"
            )

    def _share(self, name: str) -> Share:
        return self._shares.get(name) or Share.whole(self._headers[name].shape)

    def _mapped(self, name: str) -> Tensor:
        """Maps each tensor separately: its pages belong to this process only while the tensor lives."""
        header, share = self._headers[name], self._share(name)
        path, width = self._directory / header.shard, DTYPE_BYTES[header.dtype]
        start = header.start + share.first * width
        begin = start - start % mmap.ALLOCATIONGRANULARITY
        end = start + share.span * width
        try:
            with path.open("rb") as file:
                # A private copy, which nobody writes to: torch has no read-only tensors.
                mapped = mmap.mmap(file.fileno(), end - begin, offset=begin, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        _read_ahead(mapped, start - begin, share, width)
        values = torch.frombuffer(mapped, dtype=_TORCH_DTYPES[header.dtype], offset=start - begin)
        return values.as_strided((share.runs, share.run), (share.pitch, 1)).view(share.shape)


def weight_names(headers: Mapping[str, TensorHeader], prefixes: str | tuple[str, ...]) -> list[str]:
    """The names that a reader of these headers can read, in the order of shards; int4 parts as one weight."""
    names: dict[str, None] = {}
    for name in sorted(headers, key=lambda name: (headers[name].shard, headers[name].start)):
        if name.startswith(prefixes) and not is_ignored(name):
            stem, _, last = name.rpartition(".")
            names[f"{stem}.weight" if last in _PARTS else name] = None
    return list(names)


def _dtype_of(name: str, stored: Tensor, floats: torch.dtype) -> torch.dtype:
    if not stored.is_floating_point():
        return stored.dtype
    # Rounded to bfloat16 it would choose other experts.
    return torch.float32 if name.endswith(ROUTER_BIAS) else floats


def _returnable(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Memory that returns to the system with the tensor. An allocator would keep it, which adds up to a good
    part of the model: other threads free the tensors than those that took the memory.
    """
    return torch.frombuffer(mmap.mmap(-1, shape.numel() * dtype.itemsize), dtype=dtype).view(shape)


def _read_ahead(mapped: mmap.mmap, start: int, share: Share, width: int) -> None:
    """Asks the system to read the pages of a share, whose first byte is `start`, but not those between its
    runs.
    """
    if share.runs == 1 or (share.pitch - share.run) * width < mmap.PAGESIZE:
        mapped.madvise(mmap.MADV_WILLNEED)
        return
    for run in range(share.runs):
        at = start + run * share.pitch * width
        page = at - at % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, page, at - page + share.run * width)


def _parts(name: str) -> list[str]:
    return [f"{name.removesuffix('weight')}{part}" for part in _PARTS]
