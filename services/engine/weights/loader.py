"""Tensors out of a checkpoint: checked against the configuration first, then read shard by shard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from services.common.errors import CheckpointError
from services.engine.weights.expected import StoredTensor, is_ignored, problems_of
from services.engine.weights.headers import TensorHeader, listed, read_headers


def check_tensors(headers: Mapping[str, TensorHeader], expected: Mapping[str, StoredTensor]) -> None:
    """Raises a CheckpointError that lists missing, extra and misshapen tensors and those of another dtype."""
    if problems := problems_of(headers, expected):
        raise CheckpointError(f"{len(problems)} tensors do not fit the configuration: {listed(problems)}")


def read_tensors(
    directory: Path, prefixes: str | tuple[str, ...], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The tensors whose names start with one of `prefixes`, by full name, on the CPU.

    Converted to `dtype`, or as stored (then backed by the mapped file: don't write to them).
    """
    by_shard: dict[str, list[str]] = {}
    for name, header in read_headers(directory).items():
        if name.startswith(prefixes) and not is_ignored(name):
            by_shard.setdefault(header.shard, []).append(name)
    tensors: dict[str, Tensor] = {}
    for shard, names in sorted(by_shard.items()):
        with safe_open(Path(directory) / shard, framework="pt") as file:
            for name in names:
                tensor = file.get_tensor(name)
                tensors[name] = tensor if dtype is None else tensor.to(dtype)
    return tensors
