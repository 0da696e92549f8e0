"""Examples packed into rows of one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.data.example import Example
from training.data.picture import Picture

NO_TARGET = -100


@dataclass(frozen=True)
class Rows:
    """A batch of rows, each tensor int64 `[B, L]` unless noted.

    `positions` start at 0 in every document; `documents` numbers the documents of a row from 1, and 0 marks
    padding. `targets` holds the token that should follow each token, NO_TARGET outside of answers.
    `is_picture` (bool) marks media pads; `pictures` lists the pictures of those pads, row by row.
    """

    token_ids: Tensor
    positions: Tensor
    documents: Tensor
    targets: Tensor
    is_picture: Tensor
    pictures: tuple[Picture, ...] = ()

    def to(self, device: torch.device) -> Rows:
        """A copy on `device`."""
        names = ("token_ids", "positions", "documents", "targets", "is_picture")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    @property
    def num_targets(self) -> int:
        """Number of tokens that are trained on."""
        return int((self.targets != NO_TARGET).sum())


def make_rows(packed: Sequence[Sequence[Example]], length: int, media_pad: int) -> Rows:
    """Packs examples into rows of `length` tokens. `packed` lists the examples of each row, which must fit
    into it.
    """
    shape = (len(packed), length)
    token_ids, positions, documents = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    targets = torch.full(shape, NO_TARGET, dtype=torch.int64)
    for row, examples in enumerate(packed):
        start = 0
        for number, example in enumerate(examples, start=1):
            end = start + len(example.token_ids)
            ids = torch.tensor(example.token_ids)
            token_ids[row, start:end] = ids
            positions[row, start:end] = torch.arange(end - start)
            documents[row, start:end] = number
            for first, behind in example.answers:
                targets[row, start + first - 1 : start + behind - 1] = ids[first:behind]
            start = end
    pictures = tuple(picture for examples in packed for example in examples for picture in example.pictures)
    return Rows(token_ids, positions, documents, targets, token_ids == media_pad, pictures)
