"""The memory of the GPUs that a worker computes on."""

from __future__ import annotations

import torch

from services.engine.loading.workspace import CONTEXT_BYTES


def usable_bytes(device: torch.device, ranks: int) -> int:
    """What each of `ranks` GPUs from `device` on can give a worker, in bytes: the least that one of them has,
    and no more than `device` has free now, before the worker takes anything.

    Other GPUs are not asked what they have free: it would take some of it in this process.
    """
    first = device.index or 0
    totals = [torch.cuda.get_device_properties(first + rank).total_memory for rank in range(ranks)]
    free, _ = torch.cuda.mem_get_info(device)
    # The context of this process, which asking has made, is part of the plan.
    return min(*totals, free + CONTEXT_BYTES)
