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
_SCORED_AT_ONCE = 64
"""Rows whose logits exist at the same time: 40 MiB with Kimi's vocabulary."""


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
    `logits_rows` int64 `[R]`. `scored_rows` int64 `[S]`: those whose logits are used at once and not kept.
    """

    token_ids: Tensor
    positions: Tensor
    slot_mapping: Tensor
    sequences: tuple[SequenceSlice, ...]
    logits_rows: Tensor
    embeds: InputEmbeds | None = None
    scored_rows: Tensor | None = None

    @property
    def scored_slices(self) -> Sequence[Tensor]:
        """The scored rows in parts of which each has its logits computed by itself, int64 `[up to 64]`."""
        return () if self.scored_rows is None else self.scored_rows.split(_SCORED_AT_ONCE)

    @property
    def is_decode_step(self) -> bool:
        """Whether each sequence has exactly one token, all want logits, and there are no embeddings."""
        rows = len(self.sequences)
        return self.embeds is None and 0 < rows == len(self.token_ids) == len(self.logits_rows)

    @property
    def attended_pairs(self) -> int:
        """Pairs of a new token and one of its sequence, which is what attention costs."""
        return sum(sequence.num_tokens * sequence.context_len for sequence in self.sequences)

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
            None if self.scored_rows is None else moved(self.scored_rows, device),
        )


@dataclass(frozen=True)
class DeviceTokens:
    """Token ids int64 `[N]` for the batch's `rows`, known only to the device so far."""

    rows: Sequence[int]
    token_ids: Tensor

    def put(self, batch: ForwardBatch) -> None:
        """Writes them into a batch on the same device."""
        batch.token_ids[to_device(self.rows, torch.int64, self.token_ids.device)] = self.token_ids


class BatchBuilder:
    """Collects the new tokens of sequences, one sequence after another, and makes a batch of them."""

    def __init__(self) -> None:
        self._token_ids: list[int] = []
        self._positions: list[int] = []
        self._slots: list[int] = []
        self._sequences: list[SequenceSlice] = []
        self._logits_rows: list[int] = []
        self._scored_rows: list[int] = []
        self._embed_rows: list[int] = []
        self._embed_values: list[Tensor] = []

    def add(
        self,
        token_ids: Sequence[int],
        start: int,
        pages: Sequence[int],
        wants_logits: bool,
        embeds: Sequence[tuple[int, Tensor]] = (),
        scored: int = 0,
    ) -> None:
        """Adds the tokens of one sequence at positions `start`, `start + 1`, ...; `pages` holds the KV of
        earlier ones, and covers at least `start + len(token_ids)` tokens.

        `wants_logits`: those of the last token. `embeds` holds (offset within the new tokens, `[k, hidden]`
        values) and replaces the embeddings of those k tokens. `scored`: so many of the last tokens are scored
        rows. Raises ValueError if there is no token, for pages that do not cover all, and for embeddings
        outside the new tokens.
        """
        first_row, end = len(self._token_ids), start + len(token_ids)
        _check(token_ids, end, pages, embeds)
        self._token_ids += token_ids
        for position in range(start, end):
            self._positions.append(position)
            self._slots.append(pages[position // PAGE_TOKENS] * PAGE_TOKENS + position % PAGE_TOKENS)
        self._sequences.append(SequenceSlice(len(token_ids), end, pages))
        if wants_logits:
            self._logits_rows.append(len(self._token_ids) - 1)
        self._scored_rows += range(len(self._token_ids) - scored, len(self._token_ids))
        for offset, values in embeds:
            self._embed_rows += range(first_row + offset, first_row + offset + values.shape[0])
            self._embed_values.append(values)

    def build(self, device: torch.device | str = "cpu") -> ForwardBatch:
        """Returns all that was added, on `device`; `logits_rows` in the order of the sequences."""
        return ForwardBatch(
            token_ids=to_device(self._token_ids, torch.int64, device),
            positions=to_device(self._positions, torch.int64, device),
            slot_mapping=to_device(self._slots, torch.int64, device),
            sequences=tuple(self._sequences),
            logits_rows=to_device(self._logits_rows, torch.int64, device),
            embeds=self._embeds(device),
            scored_rows=to_device(self._scored_rows, torch.int64, device) if self._scored_rows else None,
        )

    def _embeds(self, device: torch.device | str) -> InputEmbeds | None:
        if not self._embed_rows:
            return None
        joined = torch.cat([values.to(device=device, dtype=torch.float32) for values in self._embed_values])
        return InputEmbeds(to_device(self._embed_rows, torch.int64, device), joined)


def _check(
    token_ids: Sequence[int], end: int, pages: Sequence[int], embeds: Sequence[tuple[int, Tensor]]
) -> None:
    if not token_ids:
        raise ValueError("a sequence has no new tokens")
    if len(pages) * PAGE_TOKENS < end:
        raise ValueError(f"{len(pages)} pages do not cover {end} tokens")
    for offset, values in embeds:
        if offset < 0 or offset + values.shape[0] > len(token_ids):
            raise ValueError(
                f"{values.shape[0]} embeddings at offset {offset} do not fit in {len(token_ids)} tokens"
            )
