"""Projects the tower's patches to rows of the text model's embedding: merges 2 x 2, averages frames."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def merge_patches(x: Tensor, frames: int, rows: int, columns: int, kernel: tuple[int, int]) -> Tensor:
    """[frames * rows * columns, width] -> [rows/kh * columns/kw, kh * kw, width], the mean over frames.

    Groups are row-major; inside a group (row 0, column 0), (row 0, column 1), (row 1, column 0), ... Raises
    ValueError if the kernel does not divide the grid.
    """
    high, wide = kernel
    if rows % high or columns % wide:
        raise ValueError(f"a grid of {rows} x {columns} patches is not a multiple of {high} x {wide}")
    cells = x.view(frames, rows // high, high, columns // wide, wide, x.shape[-1]).mean(dim=0)
    return cells.transpose(1, 2).reshape(-1, high * wide, x.shape[-1])


class PatchMergerProjector(nn.Module):
    """LayerNorm of every vector, concatenation of a group, linear, exact GELU, linear.

    Published names: ``mm_projector.pre_norm``, ``mm_projector.proj.0``, ``mm_projector.proj.2``.
    """

    def __init__(self, width: int, group: int, text_width: int, eps: float) -> None:
        super().__init__()
        self.pre_norm = nn.LayerNorm(width, eps=eps)
        self.proj = nn.ModuleDict(
            {"0": nn.Linear(width * group, width * group), "2": nn.Linear(width * group, text_width)}
        )

    def forward(self, groups: Tensor) -> Tensor:
        """[tokens, group, width] -> [tokens, text_width]."""
        merged = self.pre_norm(groups).flatten(1)
        projected: Tensor = self.proj["2"](functional.gelu(self.proj["0"](merged)))
        return projected
