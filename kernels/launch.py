"""Checks at every launch: whether the kernel runs in Triton's interpreter, and whether arguments fit."""

from __future__ import annotations

import torch
from torch import Tensor


def interpreted(tensor: Tensor) -> bool:
    """Whether a kernel on `tensor` runs in the interpreter: only there can it take CPU memory.

    The interpreter multiplies bfloat16 matrices wrongly, so kernels there compute products in float32.
    """
    return not tensor.is_cuda


CAPABILITIES = ((9, 0), (10, 0), (10, 3))
"""Compute capabilities for which tiles were chosen and machine code was read (kernels/machine_code): H100 and
H200; B200; B300."""


def why_unsupported(device: torch.device | str) -> str | None:
    """Says in one sentence why the kernels do not run on a GPU; None if they do."""
    known = ", ".join(f"{major}.{minor}" for major, minor in CAPABILITIES)
    name = torch.cuda.get_device_name(device)
    # ROCm's numbers look alike: gfx942 says 9.4.
    if torch.version.hip is not None:
        return f"{name} is a ROCm device; the kernels are made for NVIDIA GPUs of compute capability {known}"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) in CAPABILITIES:
        return None
    return f"{name} has compute capability {major}.{minor}; the kernels were only checked for {known}"


def architecture(tensor: Tensor) -> int:
    """The major number of the GPU's compute capability, a CAPABILITIES one; 9, which is Hopper, in the
    interpreter.
    """
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
