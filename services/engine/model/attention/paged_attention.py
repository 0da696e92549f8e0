"""Attention of a batch over the paged cache: decode tokens together, prefill chunks tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.batch import PAGE_TOKENS, ForwardBatch
from services.engine.kv_cache.kv_format import FLOAT32, KvFormat
from services.engine.model.attention.decode_attention import DecodePlan, attend_decode
from services.engine.model.attention.latent_kernel import KernelPlan, LatentKernel
from services.engine.model.attention.page_views import PageView, PageViews
from services.engine.model.attention.tiled_attention import TiledAttention


@dataclass(frozen=True)
class Chunk:
    """Several new tokens of one sequence: rows `[start, end)`, from `first_position` on."""

    start: int
    end: int
    first_position: int
    page_ids: Sequence[int]

    def pages(self, views: PageViews, layer: int) -> list[PageView]:
        """The pages that hold the chunk and its context."""
        count = (self.first_position + self.end - self.start - 1) // PAGE_TOKENS + 1
        return [views.view(layer, page) for page in self.page_ids[:count]]


@dataclass(frozen=True)
class AttentionPlan:
    """How one batch is split: the same for all layers.

    `expanded` are chunks for the expanded form, by rows of the batch. All other rows take the absorbed form:
    `absorbed_rows` int64 `[A]` of the batch, None for all of it. Row numbers in `chunks` and `decode_rows`
    (int64 `[N]`, the rows of `decode`) count among these. `kernel` covers all absorbed rows, if a compiled
    loop computes them.
    """

    expanded: tuple[Chunk, ...]
    absorbed_rows: Tensor | None
    chunks: tuple[Chunk, ...]
    decode: DecodePlan | None
    decode_rows: Tensor
    kernel: KernelPlan | None = None


class PagedAttention:
    """Splits batches, and computes the absorbed form.

    With `batch_decode` off every sequence goes through TiledAttention. Chunks of at least `expand_from`
    tokens are left to the expanded form; None: no chunk is. `kernel` computes all rows over pages of FLOAT32.
    """

    def __init__(
        self,
        tiled: TiledAttention,
        batch_decode: bool,
        expand_from: int | None = None,
        kernel: LatentKernel | None = None,
    ) -> None:
        self._tiled = tiled
        self.batch_decode = batch_decode
        self.expand_from = expand_from
        self.kernel = kernel

    @classmethod
    def stable(cls, heads: int, latent_dim: int, key_dim: int, device: torch.device) -> PagedAttention:
        """Rows keep their bits in any batch; decode is batched only if a trial shows that it
        changes nothing.
        """
        tiled = TiledAttention.stable(latent_dim, key_dim, device)
        batch_decode = _decode_agrees(tiled, heads, latent_dim, key_dim, device)
        return cls(tiled, batch_decode, kernel=LatentKernel.available(heads, latent_dim, key_dim, device))

    def plan(self, batch: ForwardBatch, kv_format: KvFormat = FLOAT32) -> AttentionPlan:
        """Splits the batch into chunks and one-token sequences, to attend over pages of this format."""
        device = batch.positions.device
        expanded: list[Chunk] = []
        absorbed: list[Chunk] = []
        row = start = 0
        for sequence in batch.sequences:
            count = sequence.num_tokens
            first = sequence.context_len - count
            if self.expand_from is not None and count >= self.expand_from:
                expanded.append(Chunk(row, row + count, first, sequence.pages))
            else:
                absorbed.append(Chunk(start, start + count, first, sequence.pages))
                start += count
            row += count
        outside = _outside(expanded, row, device) if expanded else None
        if self.kernel is not None and kv_format == FLOAT32:
            kernel = self.kernel.plan([(c.first_position, c.end - c.start, c.page_ids) for c in absorbed])
            return AttentionPlan(tuple(expanded), outside, (), None, _indices([], device), kernel)
        least = 2 if self.batch_decode else 1
        singles = [chunk for chunk in absorbed if chunk.end - chunk.start < least]
        return AttentionPlan(
            tuple(expanded),
            outside,
            tuple(chunk for chunk in absorbed if chunk.end - chunk.start >= least),
            DecodePlan.build([(c.first_position, c.page_ids) for c in singles], device) if singles else None,
            _indices([chunk.start for chunk in singles], device),
        )

    def attend(self, query: Tensor, views: PageViews, layer: int, plan: AttentionPlan) -> Tensor:
        """`query [A, heads, latent + rope]` of the absorbed rows, float32 and scaled -> `[A, heads, latent]`;
        the new keys must be written already.
        """
        if plan.kernel is not None:
            assert self.kernel is not None
            return self.kernel.attend(query, views.kv_pages, layer, plan.kernel)
        if plan.decode is not None and not plan.chunks:
            return self._decode(query, views, layer, plan.decode)
        parts: list[tuple[Tensor, Tensor]] = []
        for chunk in plan.chunks:
            pages = chunk.pages(views, layer)
            rows = torch.arange(chunk.start, chunk.end, device=query.device)
            chunk_query = query[chunk.start : chunk.end]
            parts.append((rows, self._tiled.attend(chunk_query, chunk.first_position, pages)))
        if len(parts) == 1 and plan.decode is None:
            return parts[0][1]
        if plan.decode is not None:
            decoded = self._decode(query[plan.decode_rows], views, layer, plan.decode)
            parts.append((plan.decode_rows, decoded))
        output = query.new_empty(*query.shape[:2], parts[0][1].shape[-1])
        for rows, values in parts:
            output[rows] = values
        return output

    def _decode(self, query: Tensor, views: PageViews, layer: int, plan: DecodePlan) -> Tensor:
        pages = [[views.view(layer, page) for page in ids] for ids in plan.page_ids]
        return attend_decode(query, pages, plan)


def _indices(rows: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=device)


def _outside(chunks: Sequence[Chunk], num_rows: int, device: torch.device) -> Tensor:
    """The rows of the batch that are in none of the chunks: int64 `[A]`."""
    outside = torch.ones(num_rows, dtype=torch.bool)
    for chunk in chunks:
        outside[chunk.start : chunk.end] = False
    return outside.nonzero().squeeze(1).to(device)


def _decode_agrees(
    tiled: TiledAttention,
    heads: int,
    latent_dim: int,
    key_dim: int,
    device: torch.device,
) -> bool:
    """Whether batched decode gives the bits of the tiled form, for sequences of several lengths."""
    generator = torch.Generator().manual_seed(2)
    lengths = (1, 2, 63, 64, 65, 200, 1000)
    count = -(-max(lengths) // PAGE_TOKENS)
    pool = torch.randn(count, 1, PAGE_TOKENS, key_dim, generator=generator).to(device)
    # Scaled to the spread of scores in a model: a softmax that picks one key would hide every difference.
    query = torch.randn(len(lengths), heads, key_dim, generator=generator).to(device)
    query = query * key_dim**-0.5
    views = PageViews(pool, latent_dim)
    pages: list[PageView] = [views.view(0, page) for page in range(count)]
    plan = DecodePlan.build([(length - 1, range(count)) for length in lengths], device)
    together = attend_decode(query, [[pages[i] for i in ids] for ids in plan.page_ids], plan)
    return all(
        torch.equal(tiled.attend(query[i : i + 1], length - 1, pages)[0], together[i])
        for i, length in enumerate(lengths)
    )
