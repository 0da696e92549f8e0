"""Loads the text model from a checkpoint directory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from services.engine.model.rank import Rank
from services.engine.model.tensor_group import NoGroup, TensorGroup
from services.engine.model.text_model import TextModel
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.loader import TensorReader
from services.engine.weights.names import TEXT_PREFIX, text_tensors
from services.engine.weights.progress import LoadProgress
from services.engine.weights.stream import StreamedTensors

if TYPE_CHECKING:
    from services.engine.kernel_model.text_model import KernelTextModel

_LAST = (f"{TEXT_PREFIX}model.norm.weight", f"{TEXT_PREFIX}lm_head.weight")


def load_text_model(
    directory: Path,
    deterministic: bool,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    group: TensorGroup = NoGroup(),  # noqa: B008 - it has no state
) -> TextModel:
    """Checks the whole checkpoint and loads its text half, converted (int4 experts: dequantised) to `dtype`.

    Loads this rank's share of a `group`; raises ConfigError if the model cannot be split so. Holds only a few
    tensors in memory beside the model.
    """
    checkpoint = Checkpoint.checked(directory)
    text = checkpoint.config.text
    names = [name for name in text_tensors(text) if group.rank.has(name, text.n_routed_experts)]
    with _streamed(checkpoint.reader(dtype, device, group.rank), names) as weights:
        return TextModel(text, weights, deterministic, group=group)


def load_kernel_text_model(
    directory: Path,
    deterministic: bool,
    dtype: torch.dtype,
    device: torch.device | str,
    group: TensorGroup = NoGroup(),  # noqa: B008 - it has no state
) -> KernelTextModel:
    """Like `load_text_model`, for a GPU, whose kernels compute with packed int4 experts."""
    # Imported only here: not every machine without a GPU has triton.
    from services.engine.kernel_model.text_model import KernelTextModel

    checkpoint = Checkpoint.checked(directory)
    # The shapes of packed values follow from the configuration, and are checked above.
    names = [
        name
        for name in checkpoint.tensors
        if name.startswith(TEXT_PREFIX)
        and not name.endswith("weight_shape")
        and group.rank.has(name, checkpoint.config.text.n_routed_experts)
    ]
    with _streamed(checkpoint.reader(dtype, device, group.rank), names) as weights:
        return KernelTextModel(checkpoint.config.text, weights, deterministic, group)


def stream_text_share(
    checkpoint: Checkpoint, rank: Rank, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> StreamedTensors:
    """Streams a rank's share of the text model, named as in the shards: floats in `dtype`, int4 experts
    packed.

    Raises ConfigError before it reads anything if the model cannot be split so.
    """
    names = [name for name in checkpoint.tensors if name.startswith(TEXT_PREFIX)]
    return _streamed(checkpoint.reader(dtype, device, rank), names)


def _streamed(reader: TensorReader, names: Iterable[str]) -> StreamedTensors:
    # In the order in which the model takes them.
    ordered = sorted(names, key=lambda name: name in _LAST)
    return StreamedTensors(reader, ordered, LoadProgress(sum(map(reader.stored_bytes, ordered))))
