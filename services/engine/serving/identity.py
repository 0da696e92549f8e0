"""The identity of a worker's model, and the check that two workers may share memory."""

from __future__ import annotations

from pathlib import Path

from perigee.v1 import worker_pb2
from services.engine.model.config.model_config import ModelConfig
from services.engine.weights.fingerprint import fingerprint

_LAYOUT = (
    ("format", "KV format (--kv-format, by default that of --dtype)"),
    ("num_layers", "KV layers"),
    ("page_tokens", "tokens per KV page"),
    ("width", "KV row width"),
)
"""What must be equal of two layouts, and what a person calls it."""


def model_identity(directory: Path, config: ModelConfig, context_length: int) -> worker_pb2.ModelIdentity:
    """The identity of the checkpoint in `directory`."""
    return worker_pb2.ModelIdentity(
        fingerprint=fingerprint(directory),
        name=directory.resolve().name,
        hidden_size=config.text.hidden_size,
        vocab_size=config.text.vocab_size,
        context_length=context_length,
    )


def explain_mismatch(owner: worker_pb2.WorkerInfo, hello: worker_pb2.ReaderHello) -> str | None:
    """The reasons why this reader must not read this owner's memory; None if it may.

    A reader without a KV layout reads embeddings only: then only the models are compared.
    """
    mine, theirs = owner.model, hello.model
    differences: list[str] = []
    if mine.fingerprint != theirs.fingerprint:
        differences.append(
            f"checkpoint: {mine.name} {mine.fingerprint.hex()[:12]} here, "
            f"{theirs.name} {theirs.fingerprint.hex()[:12]} at the reader"
        )
    if mine.hidden_size != theirs.hidden_size:
        differences.append(f"hidden size: {mine.hidden_size} here, {theirs.hidden_size} at the reader")
    if hello.HasField("layout") and owner.HasField("layout"):
        for field, name in _LAYOUT:
            here, there = getattr(owner.layout, field), getattr(hello.layout, field)
            if here != there:
                differences.append(f"{name}: {here} here, {there} at the reader")
    return "; ".join(differences) or None
