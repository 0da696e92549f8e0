"""Activations whose value never depends on where in memory an element lies.

torch's own sigmoid and silu use a different code path for the last few elements of a tensor, and round
differently there; exp, addition and division do not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), elementwise, same shape and dtype."""
    return (1.0 + torch.exp(-x)).reciprocal()


def silu(x: Tensor) -> Tensor:
    """x / (1 + e^-x), elementwise, same shape and dtype."""
    return x / (1.0 + torch.exp(-x))
