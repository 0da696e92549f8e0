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
"""Timeout of a collective operation: rank 0 evaluates and saves while the other ranks wait."""


@dataclass(frozen=True)
class Ranks:
    """`rank` of `size` processes. The default is a single process, which sends nothing."""

    rank: int = 0
    size: int = 1

    def total(self, *values: float) -> tuple[float, ...]:
        """The sum of each value over the ranks."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums)
        return tuple(sums.tolist())

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Sums the tensors over the ranks in place; all ranks get bitwise the same sums."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sums the gradients that exist on at least one rank: not every rank has pictures in each batch."""
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
    """Starts ranks 1 to `size` - 1, each running `work` in its own process, and yields rank 0. `work` has to
    be a module-level function.
    """
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
