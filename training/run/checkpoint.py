"""A resumable state of training on disk, in files small enough to be carried anywhere."""

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
"""Beside exported weights: the Progress behind them."""
MAX_FILE_BYTES = 15 << 20
_PREFIX = "step-"
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


@dataclass
class Progress:
    """`tokens`: seen, without padding; `int4_steps`, `picture_steps`: those with experts rounded to int4, and
    with pictures; `stretches`: what ran where, for the model card; `first_step`: since when the optimisers
    have their state; `vision`: the file whose tower and projector were taken over last.
    """

    step: int = 0
    tokens: int = 0
    int4_steps: int = 0
    stretches: list[dict[str, Any]] = field(default_factory=list)
    first_step: int = 0
    picture_steps: int = 0
    vision: str = ""


def save(directory: Path, state: dict[str, Tensor], progress: Progress, keep: int = 2) -> Path:
    """Writes ``step-N``, whole or not at all, and removes all but the last `keep`."""
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
    """What was saved there, oldest first."""
    return sorted(directory.glob(f"{_PREFIX}*"))


def restore(saved_at: Path, state: dict[str, Tensor], partly: bool = False) -> Progress:
    """Fills the tensors of `state`. ValueError names those that are missing or of another shape, and, unless
    only a part is wanted, those that are saved and not in `state`.
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
    """Fills tower and projector with those of a file; how many weights. ValueError for any that are no part
    of the model.
    """
    taken = load_file(path)
    left = model.load_state_dict(taken, strict=False).unexpected_keys
    if left:
        raise ValueError(f"{path} has weights that are no part of the model: {left[:3]}")
    return len(taken)


def read_progress(path: Path) -> Progress:
    """OSError where there is none."""
    return Progress(**json.loads(path.read_text(encoding="utf-8")))
