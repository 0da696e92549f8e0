"""The text model out of a checkpoint directory."""

from __future__ import annotations

from pathlib import Path

import torch

from services.common.errors import CheckpointError
from services.engine.model.config import ModelConfig
from services.engine.model.text_model import TextModel
from services.engine.weights.expected import expected_tensors
from services.engine.weights.headers import read_headers
from services.engine.weights.loader import check_tensors, read_tensors
from services.engine.weights.names import TEXT_PREFIX


def check_checkpoint(directory: Path) -> ModelConfig:
    """The configuration of a checkpoint whose tensors, text and vision, fit it; CheckpointError otherwise."""
    config = ModelConfig.from_dir(directory)
    if config.quantization is not None:
        raise CheckpointError(
            f"{directory} is quantised ({config.quantization}); only plain weights are served"
        )
    check_tensors(read_headers(directory), expected_tensors(config))
    return config


def load_text_model(
    directory: Path,
    deterministic: bool,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> TextModel:
    """Checks the whole checkpoint and loads its text half, converted to `dtype`."""
    config = check_checkpoint(directory)
    weights = read_tensors(directory, TEXT_PREFIX, dtype)
    on_device = {name: tensor.to(device) for name, tensor in weights.items()}
    return TextModel(config.text, on_device, deterministic)
