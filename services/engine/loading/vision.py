"""Loads the vision tower and projector from a checkpoint directory."""

from __future__ import annotations

from pathlib import Path

import torch

from services.engine.model.architectures import architecture_of
from services.engine.model.vision.model import VisionModel
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.loader import weight_names
from services.engine.weights.progress import LoadProgress
from services.engine.weights.stream import StreamedTensors


def load_vision_model(
    directory: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> VisionModel:
    """Checks the whole checkpoint and loads its vision half, converted to `dtype`, for inference.

    Raises CheckpointError, also for a model of text alone.
    """
    checkpoint = Checkpoint.checked(directory)
    reader = checkpoint.reader(dtype)
    sizes = checkpoint.config.vision_part
    names = weight_names(checkpoint.headers, architecture_of(checkpoint.config).vision_prefixes)
    progress = LoadProgress(reader.bytes_by_shard(names))
    with StreamedTensors(reader, names, progress) as streamed:
        weights = dict(streamed)
    # On "meta" nothing is allocated or initialised that the checkpoint replaces anyway.
    with torch.device("meta"):
        model = VisionModel(sizes)
    model.load_state_dict(weights, strict=True, assign=True)
    return model.requires_grad_(False).to(device).eval()
