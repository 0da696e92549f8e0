"""The processes that compute one model together, each with its share of the weights."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import torch
from torch import Tensor, distributed

from services.engine.model.rank import ALONE, Rank

_PATIENCE = timedelta(hours=1)
"""Between the first rank that has loaded its share of a checkpoint and the last."""


class TensorGroup(Protocol):
    """What a model needs of its group. Every rank makes the same calls in the same order."""

    @property
    def rank(self) -> Rank:
        """This process's place in it."""

    def sum(self, x: Tensor) -> Tensor:
        """The ranks' `x`, all of one shape, added up; the same bits on every rank."""

    def join(self, x: Tensor) -> Tensor:
        """The ranks' `x [..., N]` side by side: `[..., ranks x N]`."""

    def meet(self) -> None:
        """Waits until all ranks are here: each after it has loaded its share, before the first sum."""


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
    """All processes of torch.distributed's default group, which is there already.

    deterministic: sums are added up rank by rank. In which order all_reduce does that for an element depends
    on where in the tensor it is, and so on the batch; and each rank receives twice as much this way or more.
    """

    def __init__(
        self, *, deterministic: bool, whole_experts: bool = False, whole_attention: bool = False
    ) -> None:
        """The same in all of them; the others as Rank has them."""
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
        """See TensorGroup. The group's own timeout, after which a rank that hangs is noticed, is shorter."""
        distributed.barrier(timeout=_PATIENCE)

    def _all(self, x: Tensor) -> list[Tensor]:
        """Every rank's."""
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.rank.count)]
        distributed.all_gather(parts, x)
        return parts
