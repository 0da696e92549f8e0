"""The text model out of a checkpoint directory."""

from __future__ import annotations

from pathlib import Path

import torch

from services.engine.model.config import ModelConfig
from services.engine.model.text_model import TextModel
from services.engine.weights.expected import expected_tensors
from services.engine.weights.headers import TensorHeader, read_headers
from services.engine.weights.loader import TensorReader, check_tensors
from services.engine.weights.names import TEXT_PREFIX, text_tensors
from services.engine.weights.progress import LoadProgress
from services.engine.weights.stream import StreamedTensors

_LAST = (f"{TEXT_PREFIX}model.norm.weight", f"{TEXT_PREFIX}lm_head.weight")


def check_checkpoint(directory: Path) -> tuple[ModelConfig, dict[str, TensorHeader]]:
    """Configuration and tensors of a checkpoint where these, text and vision, fit it; CheckpointError
    otherwise.
    """
    config = ModelConfig.from_dir(directory)
    headers = read_headers(directory)
    check_tensors(headers, expected_tensors(config))
    return config, headers


def load_text_model(
    directory: Path,
    deterministic: bool,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> TextModel:
    """Checks the whole checkpoint and loads its text half, converted (int4 experts: dequantised) to `dtype`.

    Beside the model a few tensors are in memory, no more.
    """
    config, headers = check_checkpoint(directory)
    reader = TensorReader(directory, headers, dtype, device)
    # In the order in which the model takes them.
    names = sorted(text_tensors(config.text), key=lambda name: name in _LAST)
    progress = LoadProgress(sum(reader.stored_bytes(name) for name in names))
    with StreamedTensors(reader, names, progress) as weights:
        return TextModel(config.text, weights, deterministic)
