"""Checks at every launch: whether the kernel runs in Triton's interpreter, and whether arguments fit."""

from __future__ import annotations

import torch
from torch import Tensor


def interpreted(tensor: Tensor) -> bool:
    """Whether a kernel on `tensor` runs in the interpreter: only there can it take CPU memory.

    The interpreter multiplies bfloat16 matrices wrongly, so kernels there compute products in float32.
    """
    return not tensor.is_cuda


def architecture(tensor: Tensor) -> int:
    """The major number of the GPU's compute capability; 9, which is Hopper, in the interpreter."""
    return 9 if interpreted(tensor) else torch.cuda.get_device_capability(tensor.device)[0]


def multiprocessors(tensor: Tensor) -> int:
    """Number of multiprocessors of the GPU; that of an H200 in the interpreter."""
    if interpreted(tensor):
        return 132
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


def require(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless `condition`: the kernel would read or write out of bounds."""
    if not condition:
        raise ValueError(message)
