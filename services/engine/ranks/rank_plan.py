"""The settings of a rank group, and the steps that each rank takes with them at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.common.errors import ConfigError
from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import KvFormat
from services.engine.kv_cache.kv_pages import allocate_kv_pages
from services.engine.kv_transfer.opening import TransferOpening
from services.engine.loading.hardware import compute_on, parse_device
from services.engine.model.architectures import load_config
from services.engine.model.rank import Rank
from services.engine.model.tensor_group import DistributedGroup
from services.engine.ranks.meeting import Meeting
from services.engine.ranks.process_group import StartGroup, start_group
from services.engine.weights.expected import expected_tensors
from services.engine.weights.share import shares_of

CPU = torch.device("cpu")


@dataclass(frozen=True)
class RankPlan:
    """The settings that all ranks of a group share.

    `dtype`: of the weights. `device`: rank 0's; the GPUs of the other ranks follow it. `kernels`,
    `decodes`: as in `load_for`. `own_pages`: each rank has its own; GPUs require it. `open_transfer`,
    with `own_pages` only, opens the transfer with which a rank reads its share of pages; None: rank 0
    reads everything. `start_group` makes the process group.
    """

    ranks: int
    model: Path
    deterministic: bool
    dtype: torch.dtype
    kv_format: KvFormat
    threads: int
    num_pages: int
    whole_experts: bool = False
    whole_attention: bool = False
    device: torch.device = CPU
    kernels: bool = False
    own_pages: bool = False
    decodes: bool = False
    open_transfer: TransferOpening | None = None
    start_group: StartGroup = start_group

    @property
    def pages_shape(self) -> tuple[int, int, int, int]:
        """The shape of the KV pages, as in `allocate_kv_pages`."""
        text = load_config(self.model).text
        row_width = self.kv_format.row_width(text.kv_width)
        return self.num_pages, text.num_hidden_layers, PAGE_TOKENS, row_width

    @property
    def pages_bytes(self) -> int:
        """The bytes of all KV pages."""
        text = load_config(self.model).text
        per_token = self.kv_format.bytes_per_token(text.num_hidden_layers, text.kv_width)
        return self.num_pages * PAGE_TOKENS * per_token

    def device_of(self, rank: int) -> torch.device:
        """The device that a rank computes on."""
        if self.device.type == "cpu":
            return self.device
        return torch.device(self.device.type, (self.device.index or 0) + rank)

    def check(self) -> None:
        """Raises ConfigError if such a group is impossible."""
        if self.ranks < 2:
            raise ConfigError(f"tp: a group has at least 2 ranks, not {self.ranks}")
        if self.whole_attention and self.own_pages and not self.kernels:
            raise ConfigError("dp_attention: without the kernels it needs pages that all ranks share")
        if self.device.type == "cuda":
            parse_device(str(self.device_of(self.ranks - 1)))
        config = load_config(self.model)
        first = Rank(0, self.ranks, self.whole_experts, self.whole_attention)
        shares_of(expected_tensors(config), first)
        first.experts(config.text.n_routed_experts)

    def join(self, rank: int, meeting: Meeting) -> DistributedGroup:
        """Joins the process group once all ranks are there; returns the collective operations of the rank."""
        device = self.device_of(rank)
        compute_on(device)
        meeting.wait_for_all("started")
        self.start_group(meeting.store, rank, self.ranks, device)
        return DistributedGroup(
            deterministic=self.deterministic,
            whole_experts=self.whole_experts,
            whole_attention=self.whole_attention,
            meet=lambda: meeting.wait_for_all("loaded"),
        )

    def open_pages(self, rank: int, memory: str) -> Tensor:
        """The rank's own KV pages, or all ranks' pages in the file `memory`, which rank 0 clears."""
        if self.own_pages:
            text = load_config(self.model).text
            shape = (self.num_pages, text.num_hidden_layers, text.kv_width)
            return allocate_kv_pages(*shape, self.kv_format, self.device_of(rank))
        size = torch.Size(self.pages_shape)
        dtype = self.kv_format.dtype
        mapped = torch.from_file(memory, shared=True, size=size.numel(), dtype=dtype).view(size)
        return mapped if rank else mapped.fill_(0)
