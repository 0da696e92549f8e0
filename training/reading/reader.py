"""Trains the vision tower and projector to encode in each token what is written in its cell, as letters and
as the text model's own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.picture import Picture
from training.model.model import TrainedModel
from training.reading.cells import NO_TOKEN, NUM_CLASSES, SLOTS, STARTS
from training.run.trainer import Optimisers, Rates


@dataclass(frozen=True)
class Page:
    """A picture with the targets of its tokens from cells.py: `letters [tokens, SLOTS]` and `starts [tokens,
    STARTS + 1]`.
    """

    picture: Picture
    letters: Tensor
    starts: Tensor


@dataclass(frozen=True)
class Progress:
    """Accuracy over pages. `letters` is the share of cells with letters in which all letters are right;
    `tokens` is the share of tokens starting in a cell to which the cell's row is most similar.
    """

    letters: float
    tokens: float


class Likeness:
    """The target rows of cells: the sum of the embeddings of the tokens that start in a cell and of the token
    before them, each rotated by another quarter of the row so that they stay distinguishable.

    The first token then looks to the text model like written text, so copying starts from an ability that the
    model already has. `embedding` is `[vocab, hidden]`; `blank` is the token whose embedding a cell without
    tokens gets.
    """

    def __init__(self, embedding: Tensor, blank: int) -> None:
        self._embedding = embedding
        self._blank = blank
        self._turn = embedding.shape[1] // (STARTS + 1)

    def rows(self, starts: Tensor) -> Tensor:
        """Target rows: `[cells, STARTS + 1]` -> `[cells, hidden]`."""
        first = starts[:, 0].where(starts[:, 0] != NO_TOKEN, self._blank)
        rows = self._embedding[first]
        for place in range(1, STARTS + 1):
            there = (starts[:, place] != NO_TOKEN)[:, None]
            rows = rows + there * self._embedding[starts[:, place].clamp_min(0)].roll(place * self._turn, 1)
        return rows

    def tokens(self, rows: Tensor) -> Tensor:
        """`[cells, STARTS]`: the token that each row is most similar to in each place."""
        turned = [rows.roll(-place * self._turn, 1) for place in range(STARTS)]
        return torch.stack([(each @ self._embedding.T).argmax(1) for each in turned], 1)


class Reader(nn.Module):
    """The vision part of a model with a head for letters, which is discarded after training."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.vision_tower, self.mm_projector = model.vision_tower, model.mm_projector
        self.head = nn.Linear(model.config.text.hidden_size, SLOTS * NUM_CLASSES)
        self._encode = model.encode

    def forward(self, pictures: Sequence[Picture]) -> tuple[Tensor, Tensor]:
        """The rows `[tokens, hidden]` that the text model gets for all pictures, and the logits of the
        letters `[tokens, SLOTS, NUM_CLASSES]`.
        """
        rows: Tensor = self._encode(pictures, self.head.weight.device)
        return rows, self.head(rows).unflatten(-1, (SLOTS, NUM_CLASSES))


class ReadingTrainer:
    """Trains on pages with the optimisers of the rest of the training."""

    def __init__(self, reader: Reader, likeness: Likeness, rates: Rates) -> None:
        self.reader = reader
        self._likeness = likeness
        self._rates = rates
        self._optimisers = Optimisers(reader)

    def step(self, pages: Sequence[Page], number: int, factor: float) -> float:
        """Applies update `number`, counted from 1, at `factor` of the peak rates; returns the loss
        before it.
        """
        loss = self._loss(pages, *self.reader([page.picture for page in pages]))
        loss.backward()
        self._optimisers.step(self._rates, factor, number)
        return loss.item()

    @torch.no_grad()
    def progress(self, pages: Sequence[Page]) -> Progress:
        """Measures the accuracy on `pages`."""
        rows, logits = self.reader([page.picture for page in pages])
        letters, starts = _labels(pages, rows.device)
        written, begun = letters.any(-1), starts[:, :STARTS] != NO_TOKEN
        right = (logits.argmax(-1) == letters).all(-1)[written]
        like = (self._likeness.tokens(rows) == starts[:, :STARTS])[begun]
        return Progress(right.float().mean().item(), like.float().mean().item())

    def _loss(self, pages: Sequence[Page], rows: Tensor, logits: Tensor) -> Tensor:
        """The mean loss per letter, plus the mean squared error of the rows relative to that of their
        targets.
        """
        letters, starts = _labels(pages, rows.device)
        wanted = self._likeness.rows(starts)
        apart = (rows - wanted).square().mean() / wanted.square().mean()
        return functional.cross_entropy(logits.flatten(0, 1), letters.flatten()) + apart


def _labels(pages: Sequence[Page], device: torch.device) -> tuple[Tensor, Tensor]:
    letters = torch.cat([page.letters for page in pages])
    return letters.to(device), torch.cat([page.starts for page in pages]).to(device)
