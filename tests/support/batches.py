"""Batches of what a test names, without engines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from services.engine.batch import BatchBuilder, ForwardBatch

NewTokens: TypeAlias = (
    tuple[Sequence[int], int, Sequence[int], bool]
    | tuple[Sequence[int], int, Sequence[int], bool, Sequence[tuple[int, Tensor]]]
    | tuple[Sequence[int], int, Sequence[int], bool, Sequence[tuple[int, Tensor]], int]
)
"""One sequence's part, as BatchBuilder.add takes it: token ids, position of the first, pages, whether logits
are wanted, and perhaps embeddings and how many of the last tokens are scored.
"""


def batch_of(sequences: Iterable[NewTokens], device: torch.device | str = "cpu") -> ForwardBatch:
    """The batch of these sequences, in this order."""
    builder = BatchBuilder()
    for new_tokens in sequences:
        builder.add(*new_tokens)
    return builder.build(device)
