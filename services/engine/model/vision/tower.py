"""MoonViT-3D: patches in, one vector per patch out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.vision.layer import NORM_EPS, VisionLayer
from services.engine.model.vision.media import Grid, joined, lengths_of
from services.engine.model.vision.position import DividedPositionEmbedding
from services.engine.model.vision.rope import RopeTable, rope_table


class PatchEmbedding(nn.Module):
    """One linear map per patch, stored as a convolution whose kernel is the patch, plus its position."""

    def __init__(self, config: VisionModelConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv2d(3, config.hidden_size, kernel_size=patch, stride=patch)
        self.pos_emb = DividedPositionEmbedding(
            config.pos_emb_height, config.pos_emb_width, config.hidden_size, config.pos_emb_time
        )

    def forward(self, pixels: Tensor, grids: Sequence[Grid]) -> Tensor:
        """[patches, 3, patch, patch] -> [patches, width]."""
        embedded: Tensor = nn.functional.linear(
            pixels.flatten(1), self.proj.weight.flatten(1), self.proj.bias
        )
        return embedded + joined([self.pos_emb(*grid) for grid in grids])


class VisionEncoder(nn.Module):
    """The transformer layers and the norm after the last."""

    def __init__(self, config: VisionModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            VisionLayer(config.hidden_size, config.num_attention_heads, config.intermediate_size)
            for _ in range(config.num_hidden_layers)
        )
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)


class VisionTower(nn.Module):
    """The tower; submodules have the published tensor names below ``vision_tower.``."""

    def __init__(self, config: VisionModelConfig) -> None:
        super().__init__()
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.patch_embed = PatchEmbedding(config)
        self.encoder = VisionEncoder(config)

    def forward(self, pixels: Tensor, grids: Sequence[Grid], before_layer: Callable[[], None]) -> Tensor:
        """Encodes media. `pixels`: [patches, 3, patch, patch], those of one medium after another's; returns
        [patches, width].

        `before_layer` is called before every layer and ends the run by raising.
        """
        x: Tensor = self.patch_embed(pixels, grids)
        tables = [rope_table(*grid, self.head_dim, x.device) for grid in grids]
        rope = RopeTable(joined([table.cos for table in tables]), joined([table.sin for table in tables]))
        lengths = lengths_of(grids)
        for block in self.encoder.blocks:
            before_layer()
            x = block(x, rope, lengths)
        normed: Tensor = self.encoder.final_layernorm(x)
        return normed
