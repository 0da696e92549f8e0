"""Reads the headers of a checkpoint's safetensors shards, without reading the tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from services.common.errors import CheckpointError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000


DTYPE_BYTES: Mapping[str, int] = MappingProxyType({"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "I64": 8})
"""Bytes of one value, for the dtypes in checkpoints of this architecture."""
MAX_LISTED = 100
"""Most findings of one kind that a message lists."""


@dataclass(frozen=True)
class TensorHeader:
    """One stored tensor; `dtype` as safetensors spells it (``BF16``), `shard` the file's name.

    Its bytes are `start` to `end` of the file.
    """

    shard: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return self.end - self.start


def read_headers(directory: Path) -> dict[str, TensorHeader]:
    """The headers of every tensor of the checkpoint, by name.

    Raises CheckpointError if a shard is absent, cut off or broken, or if index and shards disagree.
    """
    found, problems = survey(directory)
    if problems:
        raise CheckpointError(f"{Path(directory) / INDEX_NAME}: " + listed(problems))
    return found


def survey(directory: Path) -> tuple[dict[str, TensorHeader], list[str]]:
    """The headers that exist, and where index and shards disagree. Raises CheckpointError for a bad shard."""
    directory = Path(directory)
    index = _weight_map(directory)
    if index is None:
        return _shard_headers(directory / SINGLE_NAME), []
    found: dict[str, TensorHeader] = {}
    for shard in sorted(set(index.values())):
        found |= _shard_headers(directory / shard)
    problems = [
        f"{name} is not in {shard}" for name, shard in index.items() if _shard_of(found, name) != shard
    ]
    problems += [f"{name} is not in the index" for name in found if name not in index]
    return found, problems


def listed(problems: Sequence[str]) -> str:
    """Joins the problems; if there are very many, the first ones, how many more there are, and what lists
    those.
    """
    more = len(problems) - MAX_LISTED
    rest = [f"and {more:,} more, which `perigee checkpoint verify` lists"] if more > 0 else []
    return "; ".join([*problems[:MAX_LISTED], *rest])


def shard_names(directory: Path) -> list[str]:
    """The shards' file names, in order."""
    index = _weight_map(Path(directory))
    return sorted(set(index.values())) if index is not None else [SINGLE_NAME]


def _shard_of(found: dict[str, TensorHeader], name: str) -> str | None:
    header = found.get(name)
    return header.shard if header is not None else None


def _weight_map(directory: Path) -> dict[str, str] | None:
    path = directory / INDEX_NAME
    if not path.exists():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has no weight_map: {error!r}") from error
    if not isinstance(index, dict) or not all(isinstance(shard, str) for shard in index.values()):
        raise CheckpointError(f"{path}: weight_map must map tensor names to file names")
    if outside := [shard for shard in index.values() if Path(shard).name != shard]:
        raise CheckpointError(
            f"{path} names shards outside the checkpoint: {', '.join(sorted(set(outside)))}"
        )
    return index


def _shard_headers(path: Path) -> dict[str, TensorHeader]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            # A file that is not safetensors has an absurd length here, which must not be allocated.
            raw: dict[str, Any] = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
        data, size = _LENGTH_BYTES + length, path.stat().st_size
        headers = {
            name: _header(path.name, entry, data) for name, entry in raw.items() if name != "__metadata__"
        }
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error!r}") from error
    if (promised := max((header.end for header in headers.values()), default=0)) > size:
        raise CheckpointError(f"{path} is cut off: {size:,} bytes, of {promised:,} that its header promises")
    return headers


def _header(shard: str, entry: Mapping[str, Any], data: int) -> TensorHeader:
    begin, end = entry["data_offsets"]
    header = TensorHeader(shard, entry["dtype"], tuple(entry["shape"]), data + begin, data + end)
    width = DTYPE_BYTES.get(header.dtype)
    if begin < 0 or (width is not None and header.nbytes != math.prod(header.shape) * width):
        raise ValueError(f"{header.nbytes} bytes at {begin} for {header.dtype} {list(header.shape)}")
    return header
