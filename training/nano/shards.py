"""Writes tensors as safetensors shards with an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

INDEX_NAME = "model.safetensors.index.json"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Sorted keys, two spaces, a newline at the end: the same bytes each time."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_shards(directory: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int) -> None:
    """``model-0000I-of-0000N.safetensors`` in the order of `tensors`, none above `max_shard_bytes`, and the
    index.
    """
    groups: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if groups[-1] and filled + tensor.nbytes > max_shard_bytes:
            groups.append({})
            filled = 0
        groups[-1][name] = tensor
        filled += tensor.nbytes
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, start=1):
        shard = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        save_file(group, directory / shard, metadata={"format": "pt"})
        # safetensors makes files that only their owner can read; containers run as somebody else.
        (directory / shard).chmod(0o644)
        weight_map |= dict.fromkeys(group, shard)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(directory / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})
