"""The model that computes for a worker, or for one rank of it, over its pages."""

from __future__ import annotations

from pathlib import Path

import structlog
from torch import Tensor

from services.engine.loading.hardware import compute_on
from services.engine.loading.text import load_kernel_text_model, load_text_model
from services.engine.model.compiled_step import CompiledStep
from services.engine.model.tensor_group import NoGroup, TensorGroup
from services.engine.runner import DecodeSteps, TextForward

log = structlog.get_logger()


def load_for(
    directory: Path,
    deterministic: bool,
    kv_pages: Tensor,
    *,
    kernels: bool,
    decodes: bool,
    group: TensorGroup = NoGroup(),  # noqa: B008 - it has no state
) -> tuple[TextForward, DecodeSteps | None]:
    """Loads the model in the dtype and on the device of the pages. `kernels`: Triton's, or else plain
    PyTorch. For a worker that `decodes`, also decode steps recorded on a GPU or compiled for a CPU, if
    these can be had. All ranks of a group must call it together.
    """
    dtype, device = kv_pages.dtype, kv_pages.device
    compute_on(device)
    if not kernels:
        plain = load_text_model(directory, deterministic, dtype, device, group)
        group.meet()
        return plain, CompiledStep.available(plain, kv_pages) if decodes else None
    model = load_kernel_text_model(directory, deterministic, dtype, device, group)
    group.meet()
    if not (decodes and kv_pages.is_cuda):
        return model, None
    from services.engine.kernel_model.decode_graphs import DecodeGraphs

    steps = DecodeGraphs(model, kv_pages)
    log.info("recording decode steps")
    steps.prepare()
    return model, steps
