"""A batch in the form the kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.batch import PAGE_TOKENS, ForwardBatch, SequenceSlice
from services.engine.host_copy import to_device
from services.engine.model.attention.attention_share import deal, part_of
from services.engine.model.rank import ALONE, Rank


@dataclass(frozen=True)
class Absorbed:
    """Tokens that attend in the absorbed form, each on its own: `rows` int64 `[N]`, None for all;
    `page_table` int32 `[N, pages]`, `context_lens` int32 `[N]`, which count the token itself.
    """

    rows: Tensor | None
    page_table: Tensor
    context_lens: Tensor


@dataclass(frozen=True)
class ExpandedChunk:
    """Rows [start, end), the last of a sequence's `context_len` tokens, for the expanded form.

    `page_ids` int32 are the pages of the context; `query_starts`, `key_starts`, `context_lens` are as
    `mla_prefill` takes them.
    """

    start: int
    end: int
    context_len: int
    page_ids: Tensor
    query_starts: Tensor
    key_starts: Tensor
    context_lens: Tensor


@dataclass(frozen=True)
class Attended:
    """The A tokens that this rank attends for: `rows` int64 `[A]` in the batch, None for all of it; their
    `positions` int64 `[A]`.

    Row numbers in `absorbed` and `chunks` count among these A tokens. `absorbed` is None if every token is in
    a chunk.
    """

    rows: Tensor | None
    positions: Tensor
    absorbed: Absorbed | None
    chunks: tuple[ExpandedChunk, ...] = ()


@dataclass(frozen=True)
class KernelStep:
    """One pass: int64 `[T]` each. Every rank writes the cache entries of all tokens, also of those that
    another rank attends for.
    """

    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    attended: Attended


def plan_step(batch: ForwardBatch, expand_from: int | None, rank: Rank = ALONE) -> KernelStep:
    """Plans a pass. Chunks of at least `expand_from` tokens are expanded; None: no chunk is. A rank with
    whole attention attends for some of the sequences only.
    """
    rows, part = None, batch
    if rank.attends_for_some:
        rows, part = part_of(batch, deal(batch.sequences, rank.count)[rank.index])
    return KernelStep(
        batch.token_ids, batch.positions, batch.slot_mapping, _attended(part, rows, expand_from)
    )


def _attended(batch: ForwardBatch, batch_rows: Tensor | None, expand_from: int | None) -> Attended:
    device = batch.positions.device
    chunks: list[ExpandedChunk] = []
    rows: list[int] = []
    tables: list[Sequence[int]] = []
    contexts: list[int] = []
    row = 0
    for sequence in batch.sequences:
        count, end = sequence.num_tokens, sequence.context_len
        if expand_from is not None and count >= expand_from:
            chunks.append(_chunk(sequence, row, device))
        else:
            rows += range(row, row + count)
            contexts += range(end - count + 1, end + 1)
            tables += [sequence.pages[: -(-end // PAGE_TOKENS)]] * count
        row += count
    absorbed = None
    if rows:
        widest = max(map(len, tables))
        flat = [page for table in tables for page in (*table, *[0] * (widest - len(table)))]
        absorbed = Absorbed(
            to_device(rows, torch.int64, device) if chunks else None,
            to_device(flat, torch.int32, device).view(len(rows), widest),
            to_device(contexts, torch.int32, device),
        )
    return Attended(batch_rows, batch.positions, absorbed, tuple(chunks))


def _chunk(sequence: SequenceSlice, row: int, device: torch.device) -> ExpandedChunk:
    pages = sequence.pages[: sequence.num_pages]
    return ExpandedChunk(
        row,
        row + sequence.num_tokens,
        sequence.context_len,
        to_device(pages, torch.int32, device),
        to_device([0, sequence.num_tokens], torch.int32, device),
        to_device([0], torch.int32, device),
        to_device([sequence.context_len], torch.int32, device),
    )
