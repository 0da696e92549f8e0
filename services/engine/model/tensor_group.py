"""The processes that compute one model together, each with its share of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, distributed

from services.engine.model.rank import ALONE, Rank


class TensorGroup(Protocol):
    """The collective operations of a model. Every rank makes the same calls in the same order."""

    @property
    def rank(self) -> Rank:
        """This process's rank."""

    def sum(self, x: Tensor) -> Tensor:
        """Adds up the ranks' `x`, all of one shape; returns the same bits on every rank."""

    def join(self, x: Tensor) -> Tensor:
        """Joins the ranks' `x [..., N]` side by side: `[..., ranks x N]`."""

    def columns(self, rows: Tensor) -> Tensor:
        """Returns this rank's part of a matrix' columns, `[R, C / ranks]`, given its part of the rows, `rows
        [R / ranks, C]`.
        """

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

    def columns(self, rows: Tensor) -> Tensor:
        """See TensorGroup."""
        return rows

    def meet(self) -> None:
        """See TensorGroup."""


class DistributedGroup:
    """All processes of torch.distributed's default group, which must exist already.

    deterministic: adds up sums rank by rank. The order in which all_reduce adds up an element depends on
    where in the tensor it is, and so on the batch. Each rank receives at least twice as much this way.
    """

    def __init__(
        self,
        *,
        deterministic: bool,
        whole_experts: bool = False,
        whole_attention: bool = False,
        meet: Callable[[], None] = lambda: None,
    ) -> None:
        """The arguments must be the same in all processes; Rank explains `whole_...`. `meet`: what `meet`
        does; by default the ranks wait for each other at their first sum.
        """
        self._deterministic = deterministic
        self._meet = meet
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

    def columns(self, rows: Tensor) -> Tensor:
        """See TensorGroup."""
        sent = rows.unflatten(1, (self.rank.count, -1)).transpose(0, 1).contiguous()
        received = torch.empty_like(sent)
        # As bytes: not every backend exchanges every dtype.
        distributed.all_to_all_single(received.view(torch.uint8), sent.view(torch.uint8))
        return received.flatten(0, 1)

    def meet(self) -> None:
        """See TensorGroup."""
        self._meet()

    def _all(self, x: Tensor) -> list[Tensor]:
        """Every rank's `x`, in the order of the ranks."""
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.rank.count)]
        distributed.all_gather(parts, x)
        return parts
