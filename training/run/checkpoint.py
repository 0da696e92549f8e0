"""A resumable training state on disk, in files small enough to copy anywhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from services.engine.weights.expected import StoredTensor
from services.engine.weights.writer import write_json, write_shards
from training.nano.shards import small_shards

TRAINING_FILE = "training.json"
"""File beside exported weights that holds the Progress of their training."""
MAX_FILE_BYTES = 15 << 20
_PREFIX = "step-"
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


@dataclass
class Progress:
    """Progress of the training so far.

    `tokens` counts trained tokens without padding. `int4_steps` and `picture_steps` count the steps with
    experts rounded to int4 and those with pictures. `stretches` lists the runs with their devices, for the
    model card. `first_step` is the step at which the optimisers' state starts. `vision` is the file from
    which tower and projector were last loaded.
    """

    step: int = 0
    tokens: int = 0
    int4_steps: int = 0
    stretches: list[dict[str, Any]] = field(default_factory=list)
    first_step: int = 0
    picture_steps: int = 0
    vision: str = ""


def save(directory: Path, state: dict[str, Tensor], progress: Progress, keep: int = 2) -> Path:
    """Writes ``step-N`` atomically and removes all saved states except the last `keep`."""
    tensors = {name: tensor.detach().cpu() for name, tensor in state.items()}
    stored = {
        name: StoredTensor(tuple(tensor.shape), _DTYPES[tensor.dtype]) for name, tensor in tensors.items()
    }
    target = directory / f"{_PREFIX}{progress.step:08d}"
    partial = directory / f"partial-{target.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_shards(partial, small_shards(stored, MAX_FILE_BYTES), lambda name: tensors[name], digits=5)
    write_json(partial / "progress.json", asdict(progress))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    for old in saved(directory)[:-keep]:
        shutil.rmtree(old)
    return target


def saved(directory: Path) -> list[Path]:
    """The saved states in `directory`, oldest first."""
    return sorted(directory.glob(f"{_PREFIX}*"))


def restore(saved_at: Path, state: dict[str, Tensor], partly: bool = False) -> Progress:
    """Fills the tensors of `state` and returns the progress. ValueError names tensors that are missing or
    have another shape and, unless `partly` is set, saved tensors that are not in `state`.
    """
    found: dict[str, Tensor] = {}
    for shard in sorted(saved_at.glob("*.safetensors")):
        found |= load_file(shard)
    wrong = [name for name in state if name not in found or found[name].shape != state[name].shape]
    wrong += [] if partly else [name for name in found if name not in state]
    if wrong:
        raise ValueError(f"{saved_at} does not fit the model: {', '.join(wrong[:10])}")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(found[name])
    return read_progress(saved_at / "progress.json")


def take_vision(path: Path, model: nn.Module) -> int:
    """Loads tower and projector from a file; returns the number of weights. ValueError if the file holds
    weights that are not part of the model.
    """
    taken = load_file(path)
    left = model.load_state_dict(taken, strict=False).unexpected_keys
    if left:
        raise ValueError(f"{path} has weights that are no part of the model: {left[:3]}")
    return len(taken)


def read_progress(path: Path) -> Progress:
    """Reads the progress from a file. OSError if there is none."""
    return Progress(**json.loads(path.read_text(encoding="utf-8")))
