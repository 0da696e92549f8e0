"""Tensors out of a checkpoint: checked against the configuration first, then read shard by shard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from services.common.errors import CheckpointError
from services.engine.weights.headers import TensorHeader, read_headers
from services.engine.weights.names import Shape

FLOAT_DTYPES = ("BF16", "F16", "F32")
# Some checkpoints carry the rotary tables, which are computed from the configuration.
IGNORED_PARTS = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")


def check_tensors(headers: Mapping[str, TensorHeader], expected: Mapping[str, Shape]) -> None:
    """Raises a CheckpointError that lists every missing, extra, misshapen or non-float tensor."""
    problems = [f"{name} is missing" for name in expected if name not in headers]
    for name, header in headers.items():
        if any(part in name for part in IGNORED_PARTS):
            continue
        if name not in expected:
            problems.append(f"{name} is not of this model")
        elif header.shape != expected[name]:
            problems.append(f"{name} has shape {list(header.shape)}, expected {list(expected[name])}")
        elif header.dtype not in FLOAT_DTYPES:
            problems.append(f"{name} has dtype {header.dtype}, expected one of {', '.join(FLOAT_DTYPES)}")
    if problems:
        raise CheckpointError(f"{len(problems)} tensors do not fit the configuration: " + "; ".join(problems))


def read_tensors(
    directory: Path, prefixes: str | tuple[str, ...], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The tensors whose names start with one of `prefixes`, by full name, on the CPU.

    Converted to `dtype`, or as stored (then backed by the mapped file: don't write to them).
    """
    by_shard: dict[str, list[str]] = {}
    for name, header in read_headers(directory).items():
        if name.startswith(prefixes) and not any(part in name for part in IGNORED_PARTS):
            by_shard.setdefault(header.shard, []).append(name)
    tensors: dict[str, Tensor] = {}
    for shard, names in sorted(by_shard.items()):
        with safe_open(Path(directory) / shard, framework="pt") as file:
            for name in names:
                tensor = file.get_tensor(name)
                tensors[name] = tensor if dtype is None else tensor.to(dtype)
    return tensors
