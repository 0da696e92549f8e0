"""The vision half of a checkpoint: tower and projector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from services.engine.host_copy import moved
from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.vision.media import Grid, joined, lengths_of
from services.engine.model.vision.projector import PatchMergerProjector, merge_patches
from services.engine.model.vision.tower import VisionTower


class VisionModel(nn.Module):
    """Encodes pixels as rows of the text model's embedding; ``state_dict`` has the published tensor names.

    Media attend to nothing outside themselves. Encoded alone, a medium has the same bits each time; together
    with others it may differ in rounding, because products of more rows may add up in another order.
    """

    def __init__(self, config: VisionModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = VisionTower(config)
        high, wide = config.merge_kernel_size
        self.mm_projector = PatchMergerProjector(
            config.hidden_size, high * wide, config.text_hidden_size, config.projector_ln_eps
        )

    def encode(self, pixels: Tensor, grid: Grid, before_layer: Callable[[], None] = lambda: None) -> Tensor:
        """Embeds one medium; see `encode_all`."""
        return self.encode_all([(pixels, grid)], before_layer)[0]

    @torch.inference_mode()
    def encode_all(
        self, media: Sequence[tuple[Tensor, Grid]], before_layer: Callable[[], None] = lambda: None
    ) -> list[Tensor]:
        """Embeds media together.

        Each is its pixels, [t * h * w, 3, patch, patch] in [-1, 1] on any device, and its grid, (t, h, w) in
        patches. Returns for each [h * w / (kernel area), text_hidden_size], in the model's dtype and on its
        device, which may still be at work on them. Raises ValueError if pixels and grid disagree or the grid
        exceeds what the model takes. `before_layer` is called before each layer and may raise to end the run,
        since the largest images take seconds on a CPU.
        """
        grids = [grid for _, grid in media]
        for pixels, (frames, rows, columns) in media:
            if pixels.shape[0] != frames * rows * columns:
                raise ValueError(f"{pixels.shape[0]} patches for a grid of {frames} x {rows} x {columns}")
        whole = joined([moved(pixels, self.device).to(self.dtype) for pixels, _ in media])
        patches = self.vision_tower(whole, grids, before_layer).split(lengths_of(grids))
        kernel = self.config.merge_kernel_size
        groups = [merge_patches(each, *grid, kernel) for each, grid in zip(patches, grids, strict=True)]
        rows_out: Tensor = self.mm_projector(joined(groups))
        return list(rows_out.split([len(group) for group in groups]))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.mm_projector.pre_norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and output."""
        return self.mm_projector.pre_norm.weight.dtype
