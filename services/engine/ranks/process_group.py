"""Starts and ends torch.distributed's default process group."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TypeAlias

import structlog
import torch
from torch import distributed
from torch._C._distributed_c10d import Store
from torch.distributed import distributed_c10d

from services.engine.ranks.meeting import PATIENCE

log = structlog.get_logger()

STEP_PATIENCE = timedelta(minutes=5)
"""The longest that a collective waits for another rank once all have loaded. Kernels may be compiled on the
way, at a different speed on each rank.
"""

StartGroup: TypeAlias = Callable[[Store, int, int, torch.device], None]
"""Makes the default group: store, rank, number of ranks, the rank's device."""


def start_group(store: Store, rank: int, ranks: int, device: torch.device) -> None:
    """NCCL on GPUs, gloo on a CPU. Every rank's process calls it.

    While ranks load, a collective waits an hour for the others, until `shorten_patience`.
    """
    on_gpu = device.type == "cuda"
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=rank,
        world_size=ranks,
        timeout=PATIENCE,
        # With a device NCCL connects the ranks now, else at the first collective.
        device_id=device if on_gpu else None,
    )


def shorten_patience() -> None:
    """All ranks have loaded: from now on a collective that waits longer than STEP_PATIENCE fails."""
    distributed_c10d._set_pg_timeout(STEP_PATIENCE)


def leave_group(device: torch.device, timeout_s: float) -> bool:
    """Leaves the default group without waiting for the other ranks; returns whether that took less than
    `timeout_s`.

    Idempotent. On GPUs the group is aborted: its proper end may wait for ranks that are gone.
    """
    if not distributed.is_initialized():
        return True
    leave = (
        distributed_c10d._abort_process_group if device.type == "cuda" else distributed.destroy_process_group
    )
    thread = threading.Thread(target=leave, name="leave-group", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return not thread.is_alive()
