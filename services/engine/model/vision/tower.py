"""MoonViT-3D: patches in, one vector per patch out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.vision.layer import NORM_EPS, VisionLayer
from services.engine.model.vision.position import DividedPositionEmbedding
from services.engine.model.vision.rope import rope_table


class PatchEmbedding(nn.Module):
    """One linear map per patch, stored as a convolution whose kernel is the patch, plus its position."""

    def __init__(self, config: VisionModelConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv2d(3, config.hidden_size, kernel_size=patch, stride=patch)
        self.pos_emb = DividedPositionEmbedding(
            config.pos_emb_height, config.pos_emb_width, config.hidden_size, config.pos_emb_time
        )

    def forward(self, pixels: Tensor, frames: int, rows: int, columns: int) -> Tensor:
        """[patches, 3, patch, patch] -> [patches, width]."""
        embedded: Tensor = nn.functional.linear(
            pixels.flatten(1), self.proj.weight.flatten(1), self.proj.bias
        )
        positions: Tensor = self.pos_emb(frames, rows, columns)
        return embedded + positions


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

    def forward(
        self, pixels: Tensor, frames: int, rows: int, columns: int, before_layer: Callable[[], None]
    ) -> Tensor:
        """Encodes one medium. `pixels`: [frames * rows * columns, 3, patch, patch]; returns [patches, width].

        `before_layer` is called before every layer and ends the run by raising.
        """
        x: Tensor = self.patch_embed(pixels, frames, rows, columns)
        rope = rope_table(frames, rows, columns, self.head_dim, x.device)
        for block in self.encoder.blocks:
            before_layer()
            x = block(x, rope)
        normed: Tensor = self.encoder.final_layernorm(x)
        return normed
