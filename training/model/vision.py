"""The engine's vision tower applied to many pictures at once, padded to the largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from services.engine.model.vision.layer import VisionLayer
from services.engine.model.vision.model import VisionModel
from services.engine.model.vision.projector import PatchMergerProjector, merge_patches
from services.engine.model.vision.rope import RopeTable, rope_table, rotate
from services.engine.model.vision.tower import VisionTower
from training.data.picture import Picture, pixels_of

MOST_PATCHES = 1 << 11
"""Limit of patches computed at once, padding included, for pictures of similar size."""


class PictureEncoder:
    """Encodes pictures with the submodules of a model: their parameters are trained, and their names stay the
    published ones.
    """

    def __init__(self, tower: VisionTower, projector: PatchMergerProjector, kernel: tuple[int, int]) -> None:
        self._tower = tower
        self._projector = projector
        self._kernel = kernel

    def __call__(self, pictures: Sequence[Picture], device: torch.device) -> Tensor:
        """`[tokens, text hidden]`: the rows of all pictures, concatenated."""
        groups: list[Tensor] = [torch.empty(0)] * len(pictures)
        for part in _of_like_size(pictures):
            for index, group in zip(part, self._groups([pictures[i] for i in part], device), strict=True):
                groups[index] = group
        rows: Tensor = self._projector(torch.cat(groups))
        return rows

    def _groups(self, pictures: Sequence[Picture], device: torch.device) -> list[Tensor]:
        """The merged patches of each picture, `[tokens, group, width]`."""
        sizes = [picture.rows * picture.columns for picture in pictures]
        largest = max(sizes)
        pixels = _padded(pixels_of(pictures, device).split(sizes), largest)
        embed, head_dim = self._tower.patch_embed, self._tower.head_dim
        grids = [(picture.rows, picture.columns) for picture in pictures]
        places = {grid: embed.pos_emb.spatial(*grid).flatten(0, 1) for grid in set(grids)}
        turns = {grid: rope_table(1, *grid, head_dim, device) for grid in set(grids)}
        x = functional.linear(pixels, embed.proj.weight.flatten(1), embed.proj.bias)
        x = x + _padded([places[grid] for grid in grids], largest)
        rope = RopeTable(
            _padded([turns[grid].cos for grid in grids], largest),
            _padded([turns[grid].sin for grid in grids], largest),
        )
        there = torch.arange(largest, device=device) < torch.tensor(sizes, device=device).unsqueeze(1)
        for block in self._tower.encoder.blocks:
            assert isinstance(block, VisionLayer)
            x = x + _attend(block, block.norm0(x), rope, there[:, None, None])
            x = x + block.mlp(block.norm1(x))
        x = self._tower.encoder.final_layernorm(x)
        return [
            merge_patches(patches[:size], 1, *grid, self._kernel)
            for patches, size, grid in zip(x, sizes, grids, strict=True)
        ]


def encoder_of(model: VisionModel) -> PictureEncoder:
    """The encoder over the two modules of a vision model."""
    return PictureEncoder(model.vision_tower, model.mm_projector, model.config.merge_kernel_size)


def _of_like_size(pictures: Sequence[Picture]) -> Iterator[list[int]]:
    """Groups pictures of similar size: yields the indices of pictures computed together, MOST_PATCHES patches
    at most, or one picture.
    """
    part: list[int] = []
    by_size = sorted(range(len(pictures)), key=lambda index: pictures[index].num_tokens, reverse=True)
    for index in by_size:
        largest = pictures[(part or [index])[0]]
        if part and (len(part) + 1) * largest.rows * largest.columns > MOST_PATCHES:
            yield part
            part = []
        part.append(index)
    yield part


def _attend(block: VisionLayer, x: Tensor, rope: RopeTable, there: Tensor) -> Tensor:
    """`[N, patches, width]` -> the same; patches that are not `there` are masked out."""
    query, key, value = block.wqkv(x).unflatten(-1, (3, block.heads, -1)).unbind(2)
    query, key = rotate(query, rope), rotate(key, rope)
    mixed = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=there
    )
    out: Tensor = block.wo(mixed.transpose(1, 2).flatten(2))
    return out


def _padded(parts: Sequence[Tensor], length: int) -> Tensor:
    """The parts stacked, each padded with zeros to `length` rows."""
    padding = [[0, 0] * (part.ndim - 1) + [0, length - part.shape[0]] for part in parts]
    return torch.stack([functional.pad(part, pad) for part, pad in zip(parts, padding, strict=True)])
