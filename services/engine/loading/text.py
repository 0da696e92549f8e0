"""The text model out of a checkpoint directory."""

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

    Of a `group` this rank's share: ConfigError where the model cannot be split so. Beside the model a few
    tensors are in memory, no more.
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
    """The same for a GPU, whose kernels compute with int4 experts as they are published."""
    # Only here: triton is not on every machine without a GPU.
    from services.engine.kernel_model.text_model import KernelTextModel

    checkpoint = Checkpoint.checked(directory)
    # The shape of packed values is known from the configuration, and checked above.
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
    """What a rank of a tensor-parallel group has of the text model, under the names in the shards: floats in
    `dtype`, int4 experts packed.

    ConfigError, before anything is read, where the model cannot be split so.
    """
    names = [name for name in checkpoint.tensors if name.startswith(TEXT_PREFIX)]
    return _streamed(checkpoint.reader(dtype, device, rank), names)


def _streamed(reader: TensorReader, names: Iterable[str]) -> StreamedTensors:
    # In the order in which the model takes them.
    ordered = sorted(names, key=lambda name: name in _LAST)
    return StreamedTensors(reader, ordered, LoadProgress(sum(map(reader.stored_bytes, ordered))))
