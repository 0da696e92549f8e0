"""Reads the weights that a rank of a tensor-parallel group would load, and measures the speed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from services.cli.process_memory import peak_resident_bytes, resident_bytes
from services.engine.loading.text import stream_text_share
from services.engine.model.rank import Rank
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.stream import READERS


@dataclass(frozen=True)
class ShareReading:
    """The result: `nbytes` of the shards read in `seconds`; memory grew by at most `growth` bytes."""

    rank: Rank
    nbytes: int
    seconds: float
    growth: int

    def line(self) -> str:
        """Returns the result as one line of text."""
        return (
            f"rank {self.rank.index} of {self.rank.count} read its share: {self.nbytes:,} bytes in"
            f" {self.seconds:.1f} s, {self.nbytes / self.seconds / 1e9:.2f} GB/s;"
            f" {READERS} readers took at most {self.growth:,} bytes of memory"
        )


def read_share(directory: Path, rank: Rank) -> ShareReading:
    """Reads every tensor of the rank's share of the text model as a worker does, and keeps none.

    Raises CheckpointError if a tensor cannot be read, ConfigError if the model cannot be split this way.
    """
    checkpoint = Checkpoint.checked(directory)
    before, started = resident_bytes(), time.monotonic()
    with stream_text_share(checkpoint, rank, torch.bfloat16) as weights:
        for name in weights:
            weights[name]
        nbytes = weights.read_bytes
    return ShareReading(rank, nbytes, time.monotonic() - started, peak_resident_bytes() - before)
