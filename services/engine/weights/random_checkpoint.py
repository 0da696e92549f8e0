"""Writes a checkpoint of any configuration, with random weights or without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from services.common.errors import ConfigError
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.quantization import published_scheme
from services.engine.weights.expected import expected_tensors
from services.engine.weights.layout import even_layout, published_layout
from services.engine.weights.names import text_tensors
from services.engine.weights.random_values import random_tensor
from services.engine.weights.writer import write_json, write_shards


def write_random_checkpoint(
    directory: Path,
    values: dict[str, Any],
    seed: int = 0,
    shards: int | None = None,
    header_only: bool = False,
) -> None:
    """Writes config.json (`values`), generation_config.json, shards and index into a new or empty directory.

    Without `shards`, there are as many as published: one for each layer and three more. The same seed gives
    the same bytes. Raises CheckpointError for an invalid configuration, ConfigError if it cannot be written.
    """
    config = ModelConfig.from_dict(values)
    tensors = expected_tensors(config)
    groups = published_layout(tensors) if shards is None else even_layout(tensors, shards)
    weights = text_tensors(config.text)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise ConfigError(f"{directory} is not empty")
        write_json(directory / "config.json", values)
        write_json(directory / "generation_config.json", _generation(values, config))

        def make(name: str) -> Tensor:
            whole = weights.get(f"{name.rpartition('.')[0]}.weight", ())
            return random_tensor(name, tensors[name], seed, whole)

        write_shards(directory, groups, None if header_only else make)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be written: {error.strerror}") from error


def with_int4(values: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with routed experts quantised as published."""
    plain = with_bf16(values)
    return plain | {"text_config": plain["text_config"] | {"quantization_config": published_scheme()}}


def with_bf16(values: dict[str, Any]) -> dict[str, Any]:
    """The same configuration without quantisation."""
    ModelConfig.from_dict(values)
    text = {key: value for key, value in values["text_config"].items() if key != "quantization_config"}
    plain = {key: value for key, value in values.items() if key != "quantization_config"}
    return plain | {"text_config": text}


def _generation(values: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    length = {"max_length": config.text.max_position_embeddings}
    return length | {key: values[key] for key in ("eos_token_id",) if key in values}
