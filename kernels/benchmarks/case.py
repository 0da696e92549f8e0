"""One kernel at one shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kernels.benchmarks.sizes import Sizes


def _as_is(results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return results


@dataclass(frozen=True)
class Case:
    """`run(copy)` computes from the copy-th of `copies` sets of inputs (see Sizes.copies).

    `expected` returns what run(0) should, in float32 or float64; it is called first, because a kernel may
    write into its inputs. `tolerance` bounds the largest error over the largest value, and the norm of the
    errors over that of the values. `num_bytes` and `flops` are the least that run must read, write and
    compute. `view` turns run's results into what is compared; it is not timed. `by` names the kernel's author
    if it is not ours; such a case is compared with ours of the same kernel and shape.
    """

    kernel: str
    shape: str
    run: Callable[[int], tuple[Tensor, ...]]
    expected: Callable[[], tuple[Tensor, ...]]
    tolerance: float
    num_bytes: int
    flops: int = 0
    copies: int = 1
    view: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] = _as_is
    by: str = ""

    def error(self) -> float:
        """The larger of the two relative errors, for the worst result."""
        wanted = self.expected()
        return max(_error(got, want) for got, want in zip(self.view(self.run(0)), wanted, strict=True))


def _error(got: Tensor, wanted: Tensor) -> float:
    """The larger relative error; infinite if a value is not finite."""
    exact = wanted.double()
    difference = got.double() - exact
    largest = difference.abs().max() / exact.abs().max()
    overall = difference.norm() / exact.norm()
    error = float(torch.maximum(largest, overall))
    return error if math.isfinite(error) else math.inf


Cases: TypeAlias = Callable[[Sizes, torch.device], Iterator[Case]]
"""The `cases` of a `bench_*` module: each case makes its inputs when the iterator reaches it."""
