"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from services.engine.model.layers.compiled_rows import CompiledRows


class RMSNorm:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32, cast back before the weight.

    `rows`: compiled loops to use, if available.
    """

    def __init__(self, weight: Tensor, eps: float, rows: CompiledRows | None = None) -> None:
        self.weight = weight.contiguous()
        self.eps = eps
        self._rows = rows

    def __call__(self, x: Tensor) -> Tensor:
        """`[..., width]` -> the same shape and dtype, contiguous."""
        if self._rows is not None and x.ndim == 2 and x.stride(1) == 1:
            return self._rows.rms_norm(x, self.weight, self.eps)
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(x.dtype) * self.weight
