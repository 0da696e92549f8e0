"""Latent attention for decode: splits a context, then combines the results of the splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import architecture, interpreted, multiprocessors, require

_TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])
MOST_SPLITS = 64
"""Most splits of a context without fixed splits, because the combining kernel takes them one by one."""
MOST_PARTIAL = 1 << 28
"""Most values of the splits' results held at a time: 1 GiB."""


@triton.jit(do_not_specialize=["page_table", "context_lens", "table_stride", "num_splits"])
def split_kernel(
    query: tl.tensor,
    pages: tl.tensor,
    page_table: tl.tensor,
    context_lens: tl.tensor,
    partial: tl.tensor,
    logsumexp: tl.tensor,
    scale_log2: float,
    query_stride: int,
    page_stride: int,
    table_stride: int,
    num_splits: int,
    heads: tl.constexpr,
    latent: tl.constexpr,
    rope: tl.constexpr,
    page_tokens: tl.constexpr,
    block_heads: tl.constexpr,
    block_tokens: tl.constexpr,
    fixed_split: tl.constexpr,
    upcast: tl.constexpr,
) -> None:
    """One sequence, tile of heads and split per program: softmax within the split, and its log-sum-exp.

    A split is `fixed_split` tokens of context; if that is 0, an equal share of the sequence's pages.
    Scores are kept in base 2.
    """
    tile = tl.program_id(0)
    sequence = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    length = tl.load(context_lens + sequence)
    if fixed_split > 0:
        share = fixed_split
    else:
        share = tl.cdiv(tl.cdiv(length, page_tokens), num_splits) * page_tokens
    start = tl.multiple_of(split * share, page_tokens)
    end = tl.minimum(start + share, length)
    if start < end:
        head = tile * block_heads + tl.arange(0, block_heads)
        head_inside = head[:, None] < heads
        lane = tl.arange(0, latent)
        rope_lane = latent + tl.arange(0, rope)
        width: tl.constexpr = latent + rope
        rows = query + sequence * query_stride + head[:, None] * width
        q_latent = tl.load(rows + lane, mask=head_inside, other=0.0)
        q_rope = tl.load(rows + rope_lane, mask=head_inside, other=0.0)
        if upcast:
            q_latent = q_latent.to(tl.float32)
            q_rope = q_rope.to(tl.float32)
        highest = tl.full((block_heads,), float("-inf"), tl.float32)
        total = tl.zeros((block_heads,), tl.float32)
        mixed = tl.zeros((block_heads, latent), tl.float32)
        for first in range(start, end, block_tokens):
            page = tl.load(page_table + sequence * table_stride + first // page_tokens).to(tl.int64)
            token = tl.arange(0, block_tokens)
            visible = first + token < end
            entry = pages + page * page_stride + (first % page_tokens + token)[:, None] * width
            # Unwritten slots may hold NaN, and zero times NaN is NaN.
            key = tl.load(entry + lane, mask=visible[:, None], other=0.0)
            key_rope = tl.load(entry + rope_lane, mask=visible[:, None], other=0.0)
            if upcast:
                key = key.to(tl.float32)
                key_rope = key_rope.to(tl.float32)
            scores = tl.dot(q_rope, tl.trans(key_rope), input_precision="ieee")
            scores = tl.dot(q_latent, tl.trans(key), scores, input_precision="ieee")
            scores = tl.where(visible[None, :], scores * scale_log2, float("-inf"))
            raised = tl.maximum(highest, tl.max(scores, axis=1))
            shrink = tl.exp2(highest - raised)
            weights = tl.exp2(scores - raised[:, None])
            total = total * shrink + tl.sum(weights, axis=1)
            mixed = tl.dot(weights.to(key.dtype), key, mixed * shrink[:, None], input_precision="ieee")
            highest = raised
        # Tensors of 64-bit offsets would take registers that the accumulator needs.
        first_head = (sequence * num_splits + split) * heads
        place = partial + first_head * latent
        tl.store(place + (head[:, None] * latent + lane), mixed / total[:, None], mask=head_inside)
        tl.store(logsumexp + first_head + head, highest + tl.log2(total), mask=head < heads)


@triton.jit(do_not_specialize=["context_lens", "num_splits"])
def combine_kernel(
    partial: tl.tensor,
    logsumexp: tl.tensor,
    context_lens: tl.tensor,
    out: tl.tensor,
    num_splits: int,
    heads: tl.constexpr,
    latent: tl.constexpr,
    page_tokens: tl.constexpr,
    fixed_split: tl.constexpr,
) -> None:
    """One sequence and head per program: combines its splits, first to last."""
    head = tl.program_id(0)
    sequence = tl.program_id(1).to(tl.int64)
    length = tl.load(context_lens + sequence)
    if fixed_split > 0:
        share = fixed_split
    else:
        share = tl.cdiv(tl.cdiv(length, page_tokens), num_splits) * page_tokens
    lane = tl.arange(0, latent)
    highest = float("-inf")
    total = 0.0
    mixed = tl.zeros((latent,), tl.float32)
    used = tl.cdiv(length, tl.maximum(share, 1))
    for split in range(used):
        place = (sequence * num_splits + split) * heads + head
        level = tl.load(logsumexp + place)
        raised = tl.maximum(highest, level)
        shrink = tl.exp2(highest - raised)
        weight = tl.exp2(level - raised)
        total = total * shrink + weight
        mixed = mixed * shrink + tl.load(partial + place * latent + lane) * weight
        highest = raised
    # A row that pads the batch has no context: this gives zeros, not 0 / 0.
    mixed = mixed / tl.where(total > 0.0, total, 1.0)
    tl.store(out + (sequence * heads + head) * latent + lane, mixed)


@dataclass(frozen=True)
class DecodeTiles:
    """How `heads` heads are tiled: `block_heads` x `block_tokens` per step of a program."""

    block_heads: int
    block_tokens: int
    num_warps: int
    num_stages: int

    @classmethod
    def choose(cls, heads: int, architecture: int) -> DecodeTiles:
        """Chooses the largest tiles that do not spill registers.

        A matrix instruction takes at least 16 rows; 64 fill one of a Hopper warp group. From Blackwell on
        (architecture 10) 64 rows would spill, because accumulators are copied from tensor memory. So would
        they with 64 tokens from triton 3.8 on.
        """
        if heads <= 16:
            return cls(16, 32, 4, 3)
        tokens = 64 if _TRITON < (3, 8) else 32
        return cls(64 if architecture < 10 else 32, tokens, 8, 2)

    @property
    def programs(self) -> int:
        """Number of programs that a multiprocessor runs at a time."""
        return 1 if self.block_heads > 16 else 2


@cache
def even_splits(programs: int, heads: int, most: int, places: int) -> int:
    """Number of parts into which each context is split if each of `programs` contexts has one program per
    part.

    Minimises the rounds that `places` concurrent programs need for all parts of equal contexts, in units of a
    whole context (rounds / parts), plus the time of writing and reading the parts' results. With 64 heads and
    8K of context, the results of one part are 2.8 % of the context's bytes. Does not use the lengths of
    contexts, because a graph is replayed for other ones.
    """
    traffic = 0.028 * heads / 64 * programs / places

    def cost(parts: int) -> float:
        return -(-programs * parts // places) / parts + traffic * parts

    return min(range(1, most + 1), key=cost)


class MLADecode:
    """Attention of one new token per sequence, for up to `max_splits` splits of a context.

    deterministic: splits are `split_tokens` of context (a multiple of the page), so that a sequence's bits
    never depend on the others; contexts may have up to max_splits x split_tokens tokens. Otherwise each
    context is split into equal parts, fewer if there are more sequences. Holds the results of splits for as
    many sequences at a time as MOST_PARTIAL allows.
    """

    def __init__(
        self,
        latent: int,
        rope: int,
        scale: float,
        max_splits: int,
        deterministic: bool,
        split_tokens: int = 512,
    ) -> None:
        self.latent = latent
        self.rope = rope
        self.max_splits = max_splits
        self.fixed_split = split_tokens if deterministic else 0
        self._scale_log2 = scale * 1.4426950408889634

    def __call__(self, query: Tensor, pages: Tensor, page_table: Tensor, context_lens: Tensor) -> Tensor:
        """`query [B, heads, latent + rope]` -> `[B, heads, latent]` in its dtype.

        pages `[P, page_tokens, latent + rope]` are one layer's, usually `pool[:, layer]`. Sequence b attends
        to the first context_lens[b] tokens of the pages page_table[b]: int32 `[B]` and `[B, max_pages]`. A
        context of 0 gives zeros. Never waits for the GPU, and the grid depends only on shapes, so a graph can
        be replayed for other contexts.
        """
        self._check(query, pages, page_table, context_lens)
        batch, heads, _ = query.shape
        out = torch.empty(batch, heads, self.latent, dtype=query.dtype, device=query.device)
        if not batch:
            return out
        splits = self._splits(query, pages, page_table)
        rows = min(batch, max(1, MOST_PARTIAL // (splits * heads * self.latent)))
        partial = torch.empty(rows, splits, heads, self.latent, dtype=torch.float32, device=query.device)
        logsumexp = torch.empty(rows, splits, heads, dtype=torch.float32, device=query.device)
        for start in range(0, batch, rows):
            some = slice(start, start + rows)
            inputs = query[some], pages, page_table[some], context_lens[some]
            self._attend(*inputs, partial, logsumexp, out[some])
        return out

    def _splits(self, query: Tensor, pages: Tensor, page_table: Tensor) -> int:
        """Number of splits, from shapes alone."""
        batch, heads, _ = query.shape
        if self.fixed_split:
            return min(self.max_splits, -(-page_table.shape[1] * pages.shape[1] // self.fixed_split))
        chosen = DecodeTiles.choose(heads, architecture(query))
        tiles = -(-heads // chosen.block_heads)
        places = multiprocessors(query) * chosen.programs
        return even_splits(batch * tiles, heads // tiles, self.max_splits, places)

    def _attend(
        self,
        query: Tensor,
        pages: Tensor,
        page_table: Tensor,
        context_lens: Tensor,
        partial: Tensor,
        logsumexp: Tensor,
        out: Tensor,
    ) -> None:
        """Fills `out`, using `partial [>= B, splits, heads, latent]` and `logsumexp` as workspace."""
        batch, heads, _ = query.shape
        splits = partial.shape[1]
        tiles = DecodeTiles.choose(heads, architecture(query))
        # Tiles of one split are adjacent: they read the same pages, which are then in the L2.
        split_kernel[(triton.cdiv(heads, tiles.block_heads), batch, splits)](
            query,
            pages,
            page_table,
            context_lens,
            partial,
            logsumexp,
            self._scale_log2,
            query.stride(0),
            pages.stride(0),
            page_table.stride(0),
            splits,
            heads=heads,
            latent=self.latent,
            rope=self.rope,
            page_tokens=pages.shape[1],
            block_heads=tiles.block_heads,
            block_tokens=tiles.block_tokens,
            fixed_split=self.fixed_split,
            upcast=interpreted(query),
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )
        combine_kernel[(heads, batch)](
            partial,
            logsumexp,
            context_lens,
            out,
            splits,
            heads=heads,
            latent=self.latent,
            page_tokens=pages.shape[1],
            fixed_split=self.fixed_split,
            num_warps=1,
        )

    def _check(self, query: Tensor, pages: Tensor, page_table: Tensor, context_lens: Tensor) -> None:
        batch, _, width = query.shape
        require(
            width == self.latent + self.rope,
            f"query {tuple(query.shape)}, not {self.latent + self.rope} wide",
        )
        require(query.stride(1) == width and query.stride(2) == 1, "the heads of query are not contiguous")
        require(pages.shape[2] == width, f"pages {tuple(pages.shape)} do not fit a query of {width}")
        require(pages.stride(1) == width and pages.stride(2) == 1, "a page is not contiguous")
        require(pages.shape[1] % 64 == 0, f"pages of {pages.shape[1]} tokens are not a multiple of 64")
        require(page_table.shape[0] == batch == len(context_lens), "table and contexts differ from the batch")
        require(page_table.stride(1) == 1, "the rows of page_table are not contiguous")
        split, page = self.fixed_split, pages.shape[1]
        require(split % page == 0, f"splits of {split} tokens are not a multiple of pages of {page}")
        if split:
            most = self.max_splits * split // page
            columns = page_table.shape[1]
            require(columns <= most, f"{columns} pages of a sequence exceed the {most} that splits can cover")
