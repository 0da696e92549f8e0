"""Row-wise operations by compiled loops: services/engine/native/rows.c."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from services.engine.native.library import address, library


class CompiledRows:
    """RMSNorm, rotation and cache entries of rows, for float32 on a CPU."""

    def __init__(self, loops: ctypes.CDLL) -> None:
        self._norm = loops.perigee_rms_norm
        self._turn = loops.perigee_turn_queries
        self._store = loops.perigee_store_latents
        for function in (self._norm, self._turn, self._store):
            function.restype = None

    @classmethod
    def available(cls, device: torch.device, dtype: torch.dtype) -> CompiledRows | None:
        """None on a GPU, for another dtype, and if nothing can be compiled."""
        loops = library() if device.type == "cpu" and dtype == torch.float32 else None
        return None if loops is None else cls(loops)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * weight: `[T, width]`, whose rows may lie apart -> `[T, width]`."""
        rows, width = x.shape
        out = torch.empty(rows, width)
        row = ctypes.c_int64(x.stride(0))
        self._norm(address(out), address(x), row, address(weight), rows, width, ctypes.c_float(eps))
        return out

    def turn_queries(self, query: Tensor, cos: Tensor, sin: Tensor, nope: int, scale: float) -> None:
        """Scales `query [T, heads, nope + rope]`, contiguous, in place, and rotates its last `rope` values by
        the angles `[T, rope / 2]`.
        """
        tokens, heads, width = query.shape
        angles = address(cos), address(sin)
        sizes = (tokens, heads, nope, width - nope)
        self._turn(address(query), *angles, *sizes, ctypes.c_float(scale))

    def store_latents(
        self,
        down: Tensor,
        weight: Tensor,
        eps: float,
        cos: Tensor,
        sin: Tensor,
        slots: Tensor,
        layer_pages: Tensor,
    ) -> None:
        """Writes the cache entries of `down [T, latent + rope]`, whose rows may lie apart, into slots int64
        `[T]` of one layer's `[pages, 64, latent + rope]`; `weight [latent]` and eps are the norm's.
        """
        self._store(
            address(layer_pages),
            ctypes.c_int64(layer_pages.stride(0)),
            address(slots),
            address(down),
            ctypes.c_int64(down.stride(0)),
            address(weight),
            address(cos),
            address(sin),
            len(down),
            len(weight),
            down.shape[1] - len(weight),
            ctypes.c_float(eps),
        )
