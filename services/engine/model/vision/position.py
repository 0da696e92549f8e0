"""The position embedding of patches: a learned table over rows and columns, fixed sines over frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPORAL_BASE = 10000.0


def temporal_table(frames: int, width: int, device: torch.device) -> Tensor:
    """float32 [frames, width]: sin(f w_k) then cos(f w_k) for w_k = 10000^(-2k / width), k < width / 2."""
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    angles = torch.outer(
        torch.arange(frames, dtype=torch.float32, device=device), 1.0 / TEMPORAL_BASE**exponents
    )
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class DividedPositionEmbedding(nn.Module):
    """Learned [rows, columns, width] table, resampled to each grid; sines for media of several frames.

    Published name of the table: ``patch_embed.pos_emb.weight``.
    """

    def __init__(self, rows: int, columns: int, width: int, max_frames: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns, width))
        self.max_frames = max_frames

    def forward(self, frames: int, rows: int, columns: int) -> Tensor:
        """[frames * rows * columns, width], frame-major, row, column. Raises ValueError above
        `max_frames`.
        """
        if not 1 <= frames <= self.max_frames:
            raise ValueError(f"{frames} frames in one medium; the model takes 1 to {self.max_frames}")
        spatial = self.spatial(rows, columns).flatten(0, 1)
        if frames == 1:
            return spatial
        temporal = temporal_table(frames, spatial.shape[-1], spatial.device)
        return (spatial[None] + temporal[:, None].to(spatial.dtype)).flatten(0, 1)

    def spatial(self, rows: int, columns: int) -> Tensor:
        """[rows, columns, width]: the table, resampled by bicubic interpolation if its size differs."""
        if (rows, columns) == tuple(self.weight.shape[:2]):
            return self.weight
        # In f32 whatever the model's dtype: a bicubic kernel's weights lose too much in bf16.
        table = self.weight.float().permute(2, 0, 1)[None]
        resampled = functional.interpolate(table, size=(rows, columns), mode="bicubic", align_corners=False)
        return resampled[0].permute(1, 2, 0).to(self.weight.dtype)
