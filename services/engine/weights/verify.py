"""Checks whether a checkpoint matches its configuration, from config.json, index and headers alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.engine.model.architectures import load_config
from services.engine.model.config.model_config import ModelConfig
from services.engine.weights.expected import expected_tensors, problems_of
from services.engine.weights.headers import survey


@dataclass(frozen=True)
class Verdict:
    """`tensors` and `nbytes` count what is stored; `problems` names every tensor that is not as expected."""

    config: ModelConfig
    tensors: int
    nbytes: int
    shards: int
    problems: list[str]


def verify(directory: Path) -> Verdict:
    """Checks a checkpoint. Raises CheckpointError if configuration, index or a header cannot be
    read at all.
    """
    config = load_config(directory)
    headers, disagreements = survey(directory)
    return Verdict(
        config,
        len(headers),
        sum(header.nbytes for header in headers.values()),
        len({header.shard for header in headers.values()}),
        problems_of(headers, expected_tensors(config)) + disagreements,
    )
