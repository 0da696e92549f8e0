"""A KV format of the tests' own, unlike the float ones in everything that a format may choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.kv_cache.kv_format import KvFormat


@dataclass(frozen=True)
class Int8Rows(KvFormat):
    """A row is its values in 255 steps, and behind them the float32 size of a step."""

    def row_width(self, width: int) -> int:
        return width + 4

    def store(self, rows: Tensor) -> Tensor:
        rows = rows.float()
        step = rows.abs().amax(dim=-1, keepdim=True).clamp_min(1e-30) / 127
        return torch.cat([(rows / step).round().to(torch.int8), step.view(torch.int8)], dim=-1)

    def load(self, stored: Tensor) -> Tensor:
        step = stored[..., -4:].contiguous().view(torch.float32)
        return stored[..., :-4].float() * step


INT8_ROWS = Int8Rows("int8-rows", torch.int8)
