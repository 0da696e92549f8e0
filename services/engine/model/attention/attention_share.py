"""Which tokens of a batch a rank attends for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.batch import ForwardBatch, SequenceSlice
from services.engine.model.attention.layer import AttentionContext


@dataclass(frozen=True)
class AttentionShare:
    """`rows` int64 of the batch, None for all of them; `context` of these rows, None if there are none."""

    rows: Tensor | None
    context: AttentionContext | None


def deal(sequences: Sequence[SequenceSlice], ranks: int) -> list[list[int]]:
    """Assigns sequences to ranks: the most expensive first, each to the rank with the least work. Returns the
    indices of each rank's sequences.

    Every rank computes the same result.
    """
    costs = [sequence.num_tokens * sequence.context_len for sequence in sequences]
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for index in sorted(range(len(sequences)), key=lambda index: (-costs[index], index)):
        rank = loads.index(min(loads))
        loads[rank] += costs[index]
        dealt[rank].append(index)
    return [sorted(mine) for mine in dealt]


def part_of(batch: ForwardBatch, chosen: Sequence[int]) -> tuple[Tensor, ForwardBatch]:
    """The rows of the chosen sequences, int64, and a batch of only these, without logits."""
    ends = torch.tensor([sequence.num_tokens for sequence in batch.sequences]).cumsum(0).tolist()
    sequences = tuple(batch.sequences[index] for index in chosen)
    spans = [range(ends[index] - batch.sequences[index].num_tokens, ends[index]) for index in chosen]
    rows = torch.tensor([row for span in spans for row in span], dtype=torch.int64)
    rows = rows.to(batch.positions.device)
    return rows, ForwardBatch(
        token_ids=batch.token_ids[rows],
        positions=batch.positions[rows],
        slot_mapping=batch.slot_mapping[rows],
        sequences=sequences,
        logits_rows=rows[:0],
    )
