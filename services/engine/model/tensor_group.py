"""The processes that compute one model together, each with its share of the weights."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import torch
from torch import Tensor, distributed

from services.engine.model.rank import ALONE, Rank

_PATIENCE = timedelta(hours=1)
"""The longest wait between the first rank that has loaded its share of a checkpoint and the last."""


class TensorGroup(Protocol):
    """The collective operations of a model. Every rank makes the same calls in the same order."""

    @property
    def rank(self) -> Rank:
        """This process's rank."""

    def sum(self, x: Tensor) -> Tensor:
        """Adds up the ranks' `x`, all of one shape; returns the same bits on every rank."""

    def join(self, x: Tensor) -> Tensor:
        """Joins the ranks' `x [..., N]` side by side: `[..., ranks x N]`."""

    def meet(self) -> None:
        """Waits until all ranks call it: each after it has loaded its share, before the first sum."""


class NoGroup:
    """The group of a model that is not split."""

    rank = ALONE

    def sum(self, x: Tensor) -> Tensor:
        """See TensorGroup."""
        return x

    def join(self, x: Tensor) -> Tensor:
        """See TensorGroup."""
        return x

    def meet(self) -> None:
        """See TensorGroup."""


class DistributedGroup:
    """All processes of torch.distributed's default group, which must exist already.

    deterministic: adds up sums rank by rank. The order in which all_reduce adds up an element depends on
    where in the tensor it is, and so on the batch. Each rank receives at least twice as much this way.
    """

    def __init__(
        self, *, deterministic: bool, whole_experts: bool = False, whole_attention: bool = False
    ) -> None:
        """The arguments must be the same in all processes; Rank explains the last two."""
        self._deterministic = deterministic
        self.rank = Rank(distributed.get_rank(), distributed.get_world_size(), whole_experts, whole_attention)

    def sum(self, x: Tensor) -> Tensor:
        """See TensorGroup."""
        if self._deterministic:
            first, *others = self._all(x)
            for part in others:
                first += part
            return first
        total = x.contiguous()
        distributed.all_reduce(total)
        return total

    def join(self, x: Tensor) -> Tensor:
        """See TensorGroup."""
        return torch.cat(self._all(x), dim=-1)

    def meet(self) -> None:
        """See TensorGroup. Waits longer than the group's own timeout, which is for noticing a rank that
        hangs.
        """
        distributed.barrier(timeout=_PATIENCE)

    def _all(self, x: Tensor) -> list[Tensor]:
        """Every rank's `x`, in the order of the ranks."""
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.rank.count)]
        distributed.all_gather(parts, x)
        return parts
