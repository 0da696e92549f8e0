"""One forward pass as a value: which tokens, at which positions, over which pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.common import page_hash
from services.engine.host_copy import moved, to_device

PAGE_TOKENS = page_hash.PAGE_TOKENS
"""Tokens per KV page: part of the wire layout, equal on every worker."""


@dataclass(frozen=True)
class SequenceSlice:
    """One sequence's part of a batch: `num_tokens` consecutive rows.

    `context_len` counts the tokens in the cache after this pass, so the first new token stands at position
    `context_len - num_tokens`. `pages` are the sequence's page ids in order, covering at least `context_len`
    tokens.
    """

    num_tokens: int
    context_len: int
    pages: Sequence[int]

    @property
    def num_pages(self) -> int:
        """Pages that the context fills, counting a partly filled last page."""
        return -(-self.context_len // PAGE_TOKENS)


@dataclass(frozen=True)
class InputEmbeds:
    """Embeddings that replace those of tokens: row `rows[i]` (int64 `[M]`) of the batch gets `values[i]`
    (`[M, hidden]`).
    """

    rows: Tensor
    values: Tensor


@dataclass(frozen=True)
class ForwardBatch:
    """Input of `ModelRunner.forward`: T tokens, R rows with logits, sequences in row order.

    `token_ids`, `positions`, `slot_mapping` are int64 `[T]` (slot = page * 64 + offset in the page),
    `logits_rows` int64 `[R]`.
    """

    token_ids: Tensor
    positions: Tensor
    slot_mapping: Tensor
    sequences: tuple[SequenceSlice, ...]
    logits_rows: Tensor
    embeds: InputEmbeds | None = None

    @property
    def is_decode_step(self) -> bool:
        """Whether each sequence has exactly one token, all want logits, and there are no embeddings."""
        rows = len(self.sequences)
        return self.embeds is None and 0 < rows == len(self.token_ids) == len(self.logits_rows)

    def to(self, device: torch.device) -> ForwardBatch:
        """The same batch on `device`; copies without waiting."""
        embeds = self.embeds
        if embeds is not None:
            embeds = InputEmbeds(moved(embeds.rows, device), moved(embeds.values, device))
        return ForwardBatch(
            moved(self.token_ids, device),
            moved(self.positions, device),
            moved(self.slot_mapping, device),
            self.sequences,
            moved(self.logits_rows, device),
            embeds,
        )


@dataclass(frozen=True)
class DeviceTokens:
    """Token ids int64 `[N]` for the batch's `rows`, known only to the device so far."""

    rows: Sequence[int]
    token_ids: Tensor

    def put(self, batch: ForwardBatch) -> None:
        """Writes them into a batch on the same device."""
        batch.token_ids[to_device(self.rows, torch.int64, self.token_ids.device)] = self.token_ids


@dataclass(frozen=True)
class BatchItem:
    """New tokens of one sequence, at positions `start`, `start + 1`, ...; `pages` holds the KV of earlier
    ones.

    `pages` covers at least `start + len(token_ids)` tokens. `embeds` holds (offset within the new tokens,
    `[k, hidden]` values) and replaces the embeddings of those k tokens.
    """

    token_ids: Sequence[int]
    start: int
    pages: Sequence[int]
    wants_logits: bool
    embeds: tuple[tuple[int, Tensor], ...] = ()


def build_batch(items: Sequence[BatchItem], device: torch.device | str = "cpu") -> ForwardBatch:
    """Lays items one after another; `logits_rows` is the last row of each item that wants logits, in order.

    Raises ValueError for an empty item, for pages that do not cover it, and for embeddings outside it.
    """
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    sequences: list[SequenceSlice] = []
    logits_rows: list[int] = []
    embed_rows: list[int] = []
    embed_values: list[Tensor] = []
    for item in items:
        first_row = len(token_ids)
        end = _checked_end(item)
        token_ids.extend(item.token_ids)
        positions.extend(range(item.start, end))
        slots.extend(
            item.pages[position // PAGE_TOKENS] * PAGE_TOKENS + position % PAGE_TOKENS
            for position in range(item.start, end)
        )
        sequences.append(SequenceSlice(len(item.token_ids), end, item.pages))
        if item.wants_logits:
            logits_rows.append(len(token_ids) - 1)
        for offset, values in item.embeds:
            embed_rows.extend(range(first_row + offset, first_row + offset + values.shape[0]))
            embed_values.append(values)
    return ForwardBatch(
        token_ids=to_device(token_ids, torch.int64, device),
        positions=to_device(positions, torch.int64, device),
        slot_mapping=to_device(slots, torch.int64, device),
        sequences=tuple(sequences),
        logits_rows=to_device(logits_rows, torch.int64, device),
        embeds=_input_embeds(embed_rows, embed_values, device),
    )


def _checked_end(item: BatchItem) -> int:
    end = item.start + len(item.token_ids)
    if not item.token_ids:
        raise ValueError("a batch item has no tokens")
    if len(item.pages) * PAGE_TOKENS < end:
        raise ValueError(f"{len(item.pages)} pages do not cover {end} tokens")
    for offset, values in item.embeds:
        if offset < 0 or offset + values.shape[0] > len(item.token_ids):
            raise ValueError(
                f"{values.shape[0]} embeddings at offset {offset} do not fit in {len(item.token_ids)} tokens"
            )
    return end


def _input_embeds(rows: list[int], values: list[Tensor], device: torch.device | str) -> InputEmbeds | None:
    if not rows:
        return None
    joined = torch.cat([value.to(device=device, dtype=torch.float32) for value in values])
    return InputEmbeds(to_device(rows, torch.int64, device), joined)
