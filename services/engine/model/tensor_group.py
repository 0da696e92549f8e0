"""The processes that compute one model together, each with its share of the weights."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, distributed

from services.engine.weights.share import ALONE, Rank


class TensorGroup(Protocol):
    """What a model needs of its group. Every rank makes the same calls in the same order."""

    @property
    def rank(self) -> Rank:
        """This process's place in it."""

    def sum(self, x: Tensor) -> Tensor:
        """The ranks' `x`, all of one shape, added up; the same bits on every rank."""

    def join(self, x: Tensor) -> Tensor:
        """The ranks' `x [..., N]` side by side: `[..., ranks x N]`."""


class NoGroup:
    """Of a model that is not split."""

    rank = ALONE

    def sum(self, x: Tensor) -> Tensor:
        """See TensorGroup."""
        return x

    def join(self, x: Tensor) -> Tensor:
        """See TensorGroup."""
        return x


class DistributedGroup:
    """All processes of torch.distributed's default group, which is there already."""

    def __init__(self, *, whole_experts: bool = False, whole_attention: bool = False) -> None:
        """As Rank has it; the same in all of them."""
        self.rank = Rank(distributed.get_rank(), distributed.get_world_size(), whole_experts, whole_attention)

    def sum(self, x: Tensor) -> Tensor:
        """See TensorGroup."""
        total = x.contiguous()
        distributed.all_reduce(total)
        return total

    def join(self, x: Tensor) -> Tensor:
        """See TensorGroup."""
        parts = [torch.empty_like(x) for _ in range(self.rank.count)]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts, dim=-1)
