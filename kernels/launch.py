"""What every launch asks: whether the kernel runs in Triton's interpreter, and whether arguments fit."""

from __future__ import annotations

import torch
from torch import Tensor


def interpreted(tensor: Tensor) -> bool:
    """Whether a kernel on `tensor` runs in the interpreter: only there can it be given CPU memory.

    The interpreter multiplies bfloat16 matrices wrongly, so kernels there compute products in float32.
    """
    return not tensor.is_cuda


def architecture(tensor: Tensor) -> int:
    """The major number of the GPU's compute capability: 9 is Hopper, and what the interpreter stands for."""
    return 9 if interpreted(tensor) else torch.cuda.get_device_capability(tensor.device)[0]


def multiprocessors(tensor: Tensor) -> int:
    """How many the GPU has; a H200's where there is none."""
    if interpreted(tensor):
        return 132
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


def require(condition: bool, message: str) -> None:
    """ValueError with `message` unless `condition`: a kernel itself would read or write elsewhere."""
    if not condition:
        raise ValueError(message)
