"""Processes of one machine that train together, each on its share of every batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

PATIENCE = timedelta(minutes=10)
"""Rank 0 evaluates and saves while the others wait."""


@dataclass(frozen=True)
class Ranks:
    """`rank` of `size` processes. With the default nothing is ever sent."""

    rank: int = 0
    size: int = 1

    def total(self, *values: float) -> tuple[float, ...]:
        """Each value's sum over the ranks."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums)
        return tuple(sums.tolist())

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """In place: every rank has the sums then, bit for bit the same."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Adds up gradients that exist on some rank: not every rank has pictures in each batch."""
        parameters = list(parameters)
        if self.size == 1:
            return
        counts = self.total(*(float(parameter.grad is not None) for parameter in parameters))
        used = [parameter for parameter, count in zip(parameters, counts, strict=True) if count]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.add_up(parameter.grad for parameter in used if parameter.grad is not None)


@contextmanager
def joined(size: int, work: Callable[[Ranks], None]) -> Iterator[Ranks]:
    """Rank 0 of `size`: the others do `work` in processes of their own. `work` is a function of a module."""
    if size == 1:
        yield Ranks()
        return
    with tempfile.TemporaryDirectory() as directory:
        meeting = str(Path(directory) / "ranks")
        context = get_context("spawn")
        others = [
            context.Process(target=_join, args=(Ranks(rank, size), meeting, work), daemon=True)
            for rank in range(1, size)
        ]
        for other in others:
            other.start()
        _meet(Ranks(0, size), meeting)
        try:
            yield Ranks(0, size)
            for other in others:
                other.join()
        finally:
            distributed.destroy_process_group()


def _join(ranks: Ranks, meeting: str, work: Callable[[Ranks], None]) -> None:
    _meet(ranks, meeting)
    try:
        work(ranks)
    finally:
        distributed.destroy_process_group()


def _meet(ranks: Ranks, meeting: str) -> None:
    distributed.init_process_group(
        "gloo", f"file://{meeting}", PATIENCE, world_size=ranks.size, rank=ranks.rank
    )
