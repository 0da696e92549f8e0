"""Reads all tensors of a checkpoint at once, because tests have small ones. Workers stream theirs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from services.engine.weights.headers import read_headers
from services.engine.weights.loader import TensorReader, weight_names


def read_tensors(
    directory: Path, prefixes: str | tuple[str, ...], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The tensors whose names start with one of `prefixes`, by full name, on the CPU.

    Converted to `dtype`, or as stored (then backed by the mapped file: don't write to them).
    """
    headers = read_headers(directory)
    reader = TensorReader(directory, headers, dtype)
    return {name: reader.read(name) for name in weight_names(headers, prefixes)}
