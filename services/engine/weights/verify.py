"""Whether a checkpoint is what its configuration says, from config.json, index and headers alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.engine.model.config.model_config import ModelConfig
from services.engine.weights.expected import expected_tensors, problems_of
from services.engine.weights.headers import survey


@dataclass(frozen=True)
class Verdict:
    """`tensors` and `nbytes` are what is stored; `problems` names every tensor that is not as it must be."""

    config: ModelConfig
    tensors: int
    nbytes: int
    shards: int
    problems: list[str]


def verify(directory: Path) -> Verdict:
    """CheckpointError where configuration, index or a shard's header cannot be read at all."""
    config = ModelConfig.from_dir(directory)
    headers, disagreements = survey(directory)
    return Verdict(
        config,
        len(headers),
        sum(header.nbytes for header in headers.values()),
        len({header.shard for header in headers.values()}),
        problems_of(headers, expected_tensors(config)) + disagreements,
    )
