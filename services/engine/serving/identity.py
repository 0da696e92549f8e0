"""Who a worker is, in the words its peers compare."""

from __future__ import annotations

from pathlib import Path

from perigee.v1 import worker_pb2
from services.engine.model.config.model_config import ModelConfig
from services.engine.weights.fingerprint import fingerprint


def model_identity(directory: Path, config: ModelConfig, context_length: int) -> worker_pb2.ModelIdentity:
    """The identity of the checkpoint in `directory`."""
    return worker_pb2.ModelIdentity(
        fingerprint=fingerprint(directory),
        name=directory.resolve().name,
        hidden_size=config.text.hidden_size,
        vocab_size=config.text.vocab_size,
        context_length=context_length,
    )
