"""Attention of rows in the absorbed form by a compiled loop: services/engine/native/latent_attention.c."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from services.engine.batch import PAGE_TOKENS
from services.engine.native.library import address, library

TILE_ROWS = (4, 2)
"""Possible heights of a tile: the lower one if there would otherwise be fewer tiles than threads."""
LANES = 8
MOST_WIDTH = 1024


@dataclass(frozen=True)
class KernelPlan:
    """The places of the keys of a batch's rows, the same for all layers; the C source explains `tiles`.

    `tables` int32: page ids of one sequence after the other; `seen` int32 `[A]`: keys that each token sees;
    `tiles` int32 `[tiles, 3]`, of `tile_rows` rows each.
    """

    tables: Tensor
    seen: Tensor
    tiles: Tensor
    tile_rows: int

    @classmethod
    def build(
        cls, chunks: Sequence[tuple[int, int, Sequence[int]]], heads: int, tile_rows: int
    ) -> KernelPlan:
        """Builds it from (first position, new tokens, page ids) of each sequence, in the order of
        the rows.
        """
        tables: list[int] = []
        seen: list[int] = []
        tiles: list[tuple[int, int, int]] = []
        row = 0
        for first, count, pages in chunks:
            end = row + count * heads
            tiles += [(start, end, len(tables)) for start in range(row, end, tile_rows)]
            seen += range(first + 1, first + count + 1)
            tables += pages[: (first + count - 1) // PAGE_TOKENS + 1]
            row = end
        int32 = partial(torch.tensor, dtype=torch.int32)
        return cls(int32(tables), int32(seen), int32(tiles), tile_rows)


class LatentKernel:
    """Attends with `heads` heads to keys of `key_dim` values, of which the first `latent_dim` are
    the values.
    """

    def __init__(self, loops: ctypes.CDLL, heads: int, latent_dim: int, key_dim: int) -> None:
        self._attend = loops.perigee_latent_attention
        self._attend.restype = None
        self._heads = heads
        self._latent_dim = latent_dim
        self._key_dim = key_dim

    @classmethod
    def available(
        cls, heads: int, latent_dim: int, key_dim: int, device: torch.device
    ) -> LatentKernel | None:
        """None on a GPU, for unsupported sizes, if nothing can be compiled, and if a trial shows that a row's
        bits depend on its neighbours.
        """
        fits = latent_dim % LANES == 0 and key_dim % LANES == 0 and latent_dim <= MOST_WIDTH
        loops = library() if fits and device.type == "cpu" else None
        if loops is None:
            return None
        kernel = cls(loops, heads, latent_dim, key_dim)
        return kernel if kernel._keeps_rows() else None

    def plan(self, chunks: Sequence[tuple[int, int, Sequence[int]]]) -> KernelPlan:
        """See KernelPlan.build."""
        tall, low = TILE_ROWS
        tiles = sum(-(-count * self._heads // tall) for _, count, _ in chunks)
        return KernelPlan.build(chunks, self._heads, tall if tiles >= torch.get_num_threads() else low)

    def attend(self, query: Tensor, kv_pages: Tensor, layer: int, plan: KernelPlan) -> Tensor:
        """`query [A, heads, latent + rope]`, scaled, over `kv_pages [pages, layers, 64, latent + rope]` ->
        `[A, heads, latent]`, all float32; the new keys must be written already.
        """
        query = query.contiguous()
        output = query.new_empty(*query.shape[:2], self._latent_dim)
        self._attend(
            address(output),
            address(query),
            address(kv_pages[0, layer]),
            ctypes.c_int64(kv_pages.stride(0)),
            address(plan.tables),
            address(plan.seen),
            address(plan.tiles),
            len(plan.tiles),
            plan.tile_rows,
            self._heads,
            self._key_dim,
            self._latent_dim,
            torch.get_num_threads(),
        )
        return output

    def _keeps_rows(self) -> bool:
        """Whether tokens get the same bits alone as in one chunk, in tiles of every height."""
        generator = torch.Generator().manual_seed(3)
        pages = torch.randn(3, 1, PAGE_TOKENS, self._key_dim, generator=generator)
        count = 2 * PAGE_TOKENS + 3
        query = torch.randn(count, self._heads, self._key_dim, generator=generator) * self._key_dim**-0.5
        ids = range(len(pages))
        together = self.attend(query, pages, 0, self.plan([(0, count, ids)]))
        tokens = (0, 1, 7, 62, 63, 64, 100, count - 1)
        for tile_rows in TILE_ROWS:
            plans = [KernelPlan.build([(token, 1, ids)], self._heads, tile_rows) for token in tokens]
            alone = [
                self.attend(query[token, None], pages, 0, plan)
                for token, plan in zip(tokens, plans, strict=True)
            ]
            if not torch.equal(torch.cat(alone), together[list(tokens)]):
                return False
        return True
