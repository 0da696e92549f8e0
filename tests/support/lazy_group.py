"""A process group whose ranks meet at their first collective, as NCCL's do without their device."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed import ProcessGroupGloo

from services.engine.ranks.meeting import PATIENCE

_NAME = "lazy"


class LazyGroup(distributed.ProcessGroup):
    """gloo, which uses the store it was given no earlier than for the first collective."""

    def __init__(self, store: distributed.Store, rank: int, ranks: int, timeout: timedelta) -> None:
        super().__init__(rank, ranks)
        self._arguments = store, rank, ranks, timeout
        self._gloo: ProcessGroupGloo | None = None

    def getBackendName(self) -> str:
        return _NAME

    def allgather(self, *arguments: Any) -> Any:
        return self._met().allgather(*arguments)

    def allreduce(self, *arguments: Any) -> Any:
        return self._met().allreduce(*arguments)

    def broadcast(self, *arguments: Any) -> Any:
        return self._met().broadcast(*arguments)

    def alltoall_base(self, *arguments: Any) -> Any:
        return self._met().alltoall_base(*arguments)

    def _met(self) -> ProcessGroupGloo:
        if self._gloo is None:
            self._gloo = ProcessGroupGloo(*self._arguments)
        return self._gloo


def start_lazily(store: distributed.Store, rank: int, ranks: int, device: torch.device) -> None:
    """Makes it the default group, in place of `start_group`."""
    if _NAME not in distributed.Backend.backend_list:
        distributed.Backend.register_backend(_NAME, LazyGroup, devices=[device.type])
    distributed.init_process_group(_NAME, store=store, rank=rank, world_size=ranks, timeout=PATIENCE)
