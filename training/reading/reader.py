"""The vision tower and projector with a head that names the letters of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.picture import Picture
from training.model.model import TrainedModel
from training.reading.cells import NUM_CLASSES, SLOTS
from training.run.trainer import Optimisers, Rates


@dataclass(frozen=True)
class Page:
    """`labels [tokens, SLOTS]` of the tokens of a picture."""

    picture: Picture
    labels: Tensor


class Reader(nn.Module):
    """Borrows the vision part of a model; the head is thrown away afterwards."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.vision_tower, self.mm_projector = model.vision_tower, model.mm_projector
        self.head = nn.Linear(model.config.text.hidden_size, SLOTS * NUM_CLASSES)
        self._encode = model.encode

    def forward(self, pictures: Sequence[Picture]) -> Tensor:
        """Logits `[tokens of all pictures, SLOTS, NUM_CLASSES]`."""
        rows = self._encode(pictures, self.head.weight.device)
        logits: Tensor = self.head(rows).unflatten(-1, (SLOTS, NUM_CLASSES))
        return logits


class ReadingTrainer:
    """Steps over pages, with the optimisers of the rest of the training."""

    def __init__(self, reader: Reader, rates: Rates) -> None:
        self.reader = reader
        self._rates = rates
        self._optimisers = Optimisers(reader)

    def step(self, pages: Sequence[Page], number: int, factor: float) -> float:
        """Update `number`, from 1, at `factor` of the peak rates; the mean loss per slot before it."""
        logits = self.reader([page.picture for page in pages])
        loss = functional.cross_entropy(logits.flatten(0, 1), _labels(pages, logits.device).flatten())
        loss.backward()
        self._optimisers.step(self._rates, factor, number)
        return loss.item()

    @torch.no_grad()
    def accuracy(self, pages: Sequence[Page]) -> float:
        """Of the cells with letters, the share with all of them right."""
        logits = self.reader([page.picture for page in pages])
        labels = _labels(pages, logits.device)
        written = labels.any(-1)
        right: float = (logits.argmax(-1) == labels).all(-1)[written].float().mean().item()
        return right


def _labels(pages: Sequence[Page], device: torch.device) -> Tensor:
    return torch.cat([page.labels for page in pages]).to(device)
