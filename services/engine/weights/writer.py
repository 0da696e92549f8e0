"""Writes a checkpoint's shards, one tensor at a time, and their index."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from services.engine.weights.expected import StoredTensor
from services.engine.weights.headers import INDEX_NAME

_ALIGNMENT = 8
# Wider values first, as the safetensors library does: this aligns every tensor.
_ORDER = ("F32", "I32", "BF16")

Group = Mapping[str, StoredTensor]
"""The tensors of one shard."""
MakeTensor = Callable[[str], Tensor]


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes sorted keys, two spaces, a newline at the end: the same bytes each time."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_shards(directory: Path, groups: Sequence[Group], make: MakeTensor | None, digits: int = 6) -> None:
    """Writes ``model-0000I-of-00000N.safetensors`` and the index, with at most one tensor in memory.

    The number of shards has `digits` digits. Without `make` the files have their headers and full sizes, but
    no data: they are sparse, if the file system supports that.
    """
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, start=1):
        shard = f"model-{number:05d}-of-{len(groups):0{digits}d}.safetensors"
        with (directory / shard).open("wb") as file:
            _write_shard(file, group, make)
        weight_map |= dict.fromkeys(group, shard)
    total = sum(tensor.nbytes for group in groups for tensor in group.values())
    write_json(directory / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_shard(file: BinaryIO, group: Group, make: MakeTensor | None) -> None:
    names = sorted(group, key=lambda name: (_ORDER.index(group[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + group[name].nbytes
        entry = {"dtype": group[name].dtype, "shape": list(group[name].shape), "data_offsets": [start, end]}
        header[name] = entry
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    if make is None:
        file.flush()
        os.truncate(file.fileno(), file.tell() + end)
        return
    for name in names:
        # A view of bytes, because numpy has no bfloat16.
        file.write(make(name).contiguous().flatten().view(torch.uint8).numpy().data)
