"""Writes a checkpoint of any configuration, with random weights or without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from services.common.errors import ConfigError
from services.engine.model.architectures import architecture_of, parse_config
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.quantization import published_scheme
from services.engine.weights.expected import expected_tensors
from services.engine.weights.layout import even_layout, published_layout
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
    config = parse_config(values)
    architecture = architecture_of(config)
    tensors = expected_tensors(config)
    groups = (
        published_layout(tensors, architecture.vision_prefixes)
        if shards is None
        else even_layout(tensors, shards)
    )
    weights = {
        f"{architecture.text_prefix}{name}": shape
        for name, shape in architecture.text_tensors(config.text).items()
    }
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
    plain, section = with_bf16(values), _text_section(values)
    packed = {"quantization_config": published_scheme()}
    return plain | ({section: plain[section] | packed} if section else packed)


def with_bf16(values: dict[str, Any]) -> dict[str, Any]:
    """The same configuration without quantisation."""
    section = _text_section(values)
    plain = _unquantised(values)
    return plain | ({section: _unquantised(plain[section])} if section else {})


def _text_section(values: dict[str, Any]) -> str:
    return architecture_of(parse_config(values)).text_section


def _unquantised(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "quantization_config"}


def _generation(values: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    length = {"max_length": config.text.max_position_embeddings}
    return length | {key: values[key] for key in ("eos_token_id",) if key in values}
