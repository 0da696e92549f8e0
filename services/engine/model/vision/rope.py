"""2-D rotary embedding: adjacent pairs, rotated by the patch's column and row in alternation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROPE_BASE = 10000.0
MAX_SIDE = 512


@dataclass(frozen=True)
class RopeTable:
    """`cos`, `sin`: float32 [patches, 1, head_dim / 2], one value per pair, the same for every head."""

    cos: Tensor
    sin: Tensor


def rope_table(frames: int, rows: int, columns: int, head_dim: int, device: torch.device) -> RopeTable:
    """Angles of all patches, frame-major, then row, then column; the frame does not matter.

    With theta_i = 10000^(-4i / head_dim), i < head_dim / 4, pair 2i rotates by column * theta_i and pair 2i +
    1 by row * theta_i. Raises ValueError if a side is longer than 512 patches.
    """
    if max(rows, columns) > MAX_SIDE:
        raise ValueError(f"a grid of {rows} x {columns} patches; the model takes {MAX_SIDE} a side")
    exponents = torch.arange(0, head_dim, 4, dtype=torch.float32, device=device) / head_dim
    theta = 1.0 / ROPE_BASE**exponents
    row_angles = torch.outer(torch.arange(rows, dtype=torch.float32, device=device), theta)
    column_angles = torch.outer(torch.arange(columns, dtype=torch.float32, device=device), theta)
    shape = (frames, rows, columns, theta.numel())
    pairs = torch.stack(
        [column_angles[None, None].expand(shape), row_angles[None, :, None].expand(shape)], dim=-1
    )
    angles = pairs.reshape(frames * rows * columns, 1, head_dim // 2)
    return RopeTable(angles.cos(), angles.sin())


def rotate(x: Tensor, table: RopeTable) -> Tensor:
    """`x`: [patches, heads, head_dim]; rotates elements (2p, 2p + 1) by pair p's angle, in f32."""
    even, odd = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([even * table.cos - odd * table.sin, even * table.sin + odd * table.cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)
