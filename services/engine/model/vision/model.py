"""The vision half of a checkpoint: tower and projector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.vision.projector import PatchMergerProjector, merge_patches
from services.engine.model.vision.tower import VisionTower


class VisionModel(nn.Module):
    """Encodes pixels as rows of the text model's embedding; ``state_dict`` has the published tensor names.

    Processes each medium on its own, so its embedding never depends on what else is being encoded.
    """

    def __init__(self, config: VisionModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = VisionTower(config)
        high, wide = config.merge_kernel_size
        self.mm_projector = PatchMergerProjector(
            config.hidden_size, high * wide, config.text_hidden_size, config.projector_ln_eps
        )

    @torch.inference_mode()
    def encode(
        self,
        pixels: Tensor,
        grid: tuple[int, int, int],
        before_layer: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Embeds one medium.

        `pixels`: [t * h * w, 3, patch, patch] in [-1, 1]; `grid`: (t, h, w) in patches. Returns [h * w /
        (kernel area), text_hidden_size] in the model's dtype. Raises ValueError if pixels and grid disagree
        or the grid exceeds what the model takes. `before_layer` is called before each layer and may raise to
        end the run, since the largest images take seconds on a CPU.
        """
        frames, rows, columns = grid
        if pixels.shape[0] != frames * rows * columns:
            raise ValueError(f"{pixels.shape[0]} patches for a grid of {frames} x {rows} x {columns}")
        patches = self.vision_tower(pixels.to(self.dtype), frames, rows, columns, before_layer)
        groups = merge_patches(patches, frames, rows, columns, self.config.merge_kernel_size)
        rows_out: Tensor = self.mm_projector(groups)
        return rows_out

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and output."""
        return self.mm_projector.pre_norm.weight.dtype
