"""The headers of a checkpoint's safetensors shards: what is stored, without reading it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.errors import CheckpointError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class TensorHeader:
    """One stored tensor; `dtype` as safetensors spells it (``BF16``), `shard` the file's name."""

    shard: str
    dtype: str
    shape: tuple[int, ...]


def read_headers(directory: Path) -> dict[str, TensorHeader]:
    """Every tensor of the checkpoint by name.

    CheckpointError where a shard is absent or broken, or where index and shards disagree.
    """
    directory = Path(directory)
    index = _weight_map(directory)
    if index is None:
        return _shard_headers(directory / SINGLE_NAME)
    found: dict[str, TensorHeader] = {}
    for shard in sorted(set(index.values())):
        found |= _shard_headers(directory / shard)
    problems = [
        f"{name} is not in {shard}" for name, shard in index.items() if _shard_of(found, name) != shard
    ]
    problems += [f"{name} is not in the index" for name in found if name not in index]
    if problems:
        raise CheckpointError(f"{directory / INDEX_NAME}: " + "; ".join(problems))
    return found


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
            # A file that is no safetensors has an absurd length here, which must not be allocated.
            raw: dict[str, Any] = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    return {
        name: TensorHeader(path.name, entry["dtype"], tuple(entry["shape"]))
        for name, entry in raw.items()
        if name != "__metadata__"
    }
