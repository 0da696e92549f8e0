"""Loads the text model from a checkpoint directory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from services.common.errors import ConfigError
from services.engine.loading.column_exchange import ColumnExchange
from services.engine.model.architectures import architecture_of, common_text_layer
from services.engine.model.prefixed_weights import PrefixedWeights
from services.engine.model.rank import Rank
from services.engine.model.tensor_group import NoGroup, TensorGroup
from services.engine.model.text_model import TextModel
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.loader import TensorReader
from services.engine.weights.progress import LoadProgress
from services.engine.weights.share import row_shares_of
from services.engine.weights.stream import StreamedTensors

if TYPE_CHECKING:
    from services.engine.kernel_model.text_model import KernelTextModel

_LAST = ("model.norm.weight", "lm_head.weight")


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
    text, architecture = checkpoint.config.text, architecture_of(checkpoint.config)
    prefix = architecture.text_prefix
    below = architecture.text_tensors(text)
    names = [f"{prefix}{name}" for name in below if group.rank.has(name, text.n_routed_experts)]
    with _streamed(checkpoint.reader(dtype, device, group.rank), names) as weights:
        return TextModel(
            text,
            PrefixedWeights(weights, prefix),
            deterministic,
            group=group,
            layer=architecture.text_layer(),
        )


def load_kernel_text_model(
    directory: Path,
    deterministic: bool,
    dtype: torch.dtype,
    device: torch.device | str,
    group: TensorGroup = NoGroup(),  # noqa: B008 - it has no state
) -> KernelTextModel:
    """Like `load_text_model`, for a GPU, whose kernels compute with packed int4 experts. All ranks of a
    group must call it together: each reads a part of what is split by columns, and they exchange it.

    Raises ConfigError for a GPU that the kernels were not made for or cannot be launched on, and for layers
    that they do not compute.
    """
    # Imported only here: not every machine without a GPU has triton.
    from kernels.launch import why_unsupported
    from services.engine.kernel_model.kernel_cache import open_kernel_cache, reach_driver
    from services.engine.kernel_model.text_model import KernelTextModel

    if torch.device(device).type == "cuda":
        if reason := why_unsupported(device):
            raise ConfigError(f"device: {reason}")
        open_kernel_cache()
        reach_driver()
    checkpoint = Checkpoint.checked(directory)
    architecture = architecture_of(checkpoint.config)
    if architecture.text_layer() is not common_text_layer():
        raise ConfigError(f"device: no kernel for a GPU computes layers of {checkpoint.config.model_type}")
    # The shapes of packed values follow from the configuration, and are checked above.
    names = [
        name
        for name, tensor in checkpoint.tensors.items()
        if tensor.is_text
        and not name.endswith("weight_shape")
        and group.rank.has(name, checkpoint.config.text.n_routed_experts)
    ]
    rows = row_shares_of(checkpoint.tensors, group.rank)
    with _streamed(checkpoint.reader(dtype, device, group.rank, rows), names) as weights:
        below = PrefixedWeights(ColumnExchange(weights, rows, group), architecture.text_prefix)
        return KernelTextModel(checkpoint.config.text, below, deterministic, group)


def stream_text_share(
    checkpoint: Checkpoint,
    rank: Rank,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    exchanges: bool = False,
) -> StreamedTensors:
    """Streams what a rank reads of the text model, named as in the shards: floats in `dtype`, int4 experts
    packed. That is its share; if it `exchanges` columns with the others, rows of what is split by columns.

    Raises ConfigError before it reads anything if the model cannot be split so.
    """
    names = [name for name, tensor in checkpoint.tensors.items() if tensor.is_text]
    rows = row_shares_of(checkpoint.tensors, rank) if exchanges else {}
    return _streamed(checkpoint.reader(dtype, device, rank, rows), names)


def _streamed(reader: TensorReader, names: Iterable[str]) -> StreamedTensors:
    # In the order in which the model takes them.
    ordered = sorted(names, key=lambda name: name.endswith(_LAST))
    return StreamedTensors(reader, ordered, LoadProgress(reader.bytes_by_shard(ordered)))
