"""Loads the model of a worker, or of one rank of it, to compute over its pages."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch
from torch import Tensor

from services.engine.kv_cache.kv_format import KvFormat
from services.engine.loading.hardware import compute_on
from services.engine.loading.text import load_kernel_text_model, load_text_model
from services.engine.model.compiled_step import CompiledStep
from services.engine.model.tensor_group import NoGroup, TensorGroup
from services.engine.runner import DecodeSteps, TextForward

log = structlog.get_logger()


def load_for(
    directory: Path,
    deterministic: bool,
    dtype: torch.dtype,
    kv_pages: Tensor,
    kv_format: KvFormat,
    *,
    kernels: bool,
    decodes: bool,
    group: TensorGroup = NoGroup(),  # noqa: B008 - it has no state
) -> tuple[TextForward, DecodeSteps | None]:
    """Loads the model with weights of `dtype`, on the device of the pages: with Triton's kernels, which take
    pages of KERNEL_FORMATS, if `kernels`, else in plain PyTorch, which takes any. If the worker `decodes`,
    also returns decode steps, recorded on a GPU or compiled for a CPU, if these are available. All ranks of a
    group must call it together.
    """
    device = kv_pages.device
    compute_on(device)
    if not kernels:
        plain = load_text_model(directory, deterministic, dtype, device, group)
        group.meet()
        return plain, CompiledStep.available(plain, kv_pages, kv_format) if decodes else None
    model = load_kernel_text_model(directory, deterministic, dtype, device, group)
    group.meet()
    if not (decodes and kv_pages.is_cuda):
        return model, None
    from services.engine.kernel_model.decode_graphs import DecodeGraphs

    steps = DecodeGraphs(model, kv_pages)
    log.info("recording decode steps")
    steps.prepare()
    return model, steps
