"""Matrix products whose rows do not depend on how many rows there are.

A BLAS picks its kernel by the number of rows, and kernels add up in different orders: a token would get other
bits alone than in a batch. Deterministic mode pads the rows to a number for which the kernel was seen to be
the same, multiplies fixed tiles if no padding helps, and pads the columns if tiles do not help either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from services.common.errors import InternalError

TILE_ROWS = 16
TILE_COLUMNS = 16


RowProduct = Callable[[Tensor, Tensor], Tensor]
"""`x [..., M, K]` times `weight [..., K, N]` -> `[..., M, N]`; leading dimensions are equal."""


class AtLeastTwoRows:
    """Doubles a single row."""

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.shape[-2] > 1:
            return torch.matmul(x, weight)
        return torch.matmul(torch.cat([x, x], dim=-2), weight)[..., :1, :]


@dataclass(frozen=True)
class MultipleOfRows:
    """Pads the rows with zeros to a multiple of `rows`."""

    rows: int

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        count = x.shape[-2]
        missing = -count % self.rows
        if not missing:
            return torch.matmul(x, weight)
        return torch.matmul(functional.pad(x, (0, 0, 0, missing)), weight)[..., :count, :]


@dataclass(frozen=True)
class TiledRows:
    """Multiplies tiles of exactly `rows` rows, one after another: slow but safe."""

    rows: int

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        count = x.shape[-2]
        padded = functional.pad(x, (0, 0, 0, -count % self.rows))
        tiles = [torch.matmul(tile, weight) for tile in padded.split(self.rows, dim=-2)]
        return torch.cat(tiles, dim=-2)[..., :count, :]


@dataclass(frozen=True)
class PaddedColumns:
    """Pads the weight with zero columns to a multiple of `columns` for another product.

    A kernel that computes the last columns separately may round them by the row's place in its block.
    """

    columns: int
    product: RowProduct

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        count = weight.shape[-1]
        return self.product(x, functional.pad(weight, (0, -count % self.columns)))[..., :count]


CANDIDATES: tuple[RowProduct, ...] = (
    AtLeastTwoRows(),
    MultipleOfRows(TILE_ROWS),
    TiledRows(TILE_ROWS),
    PaddedColumns(TILE_COLUMNS, MultipleOfRows(TILE_ROWS)),
    PaddedColumns(TILE_COLUMNS, TiledRows(TILE_ROWS)),
)
"""From fast to slow."""

PROBE_ROWS = (1, 2, 3, 4, 5, 7, 8, 13, 15, 16, 17, 24, 31, 33, 48, 64, 65, 100, 128, 257, 512, 1000)
PROBE_BATCH = 1040
MOST_ROWS = 1024
"""Most rows of one product in deterministic mode, because trials cover no more."""
ALIGNMENT_BYTES = 64
"""Alignment of memory that torch allocates on a CPU."""


def rows_are_stable(product: Callable[[Tensor], Tensor], rows: Tensor) -> bool:
    """Whether `product(rows[..., a:b, :])` equals those rows of `product(rows)` bit by bit, for
    many (a, b).
    """
    whole = product(rows)
    total = rows.shape[-2]
    for count in PROBE_ROWS:
        for start in (0, 7, total - count):
            part = rows[..., start : start + count, :]
            expected = whole[..., start : start + count, :]
            if not all(torch.equal(product(form), expected) for form in _forms(part)):
                return False
    return True


def _forms(part: Tensor) -> tuple[Tensor, ...]:
    """The slice, and a copy of it if that differs in layout or alignment."""
    if part.is_contiguous() and part.data_ptr() % ALIGNMENT_BYTES == 0:
        return (part,)
    return (part, part.clone())


FixedProduct = Callable[[Tensor], Tensor]
"""`x [..., M, K]` times a fixed weight -> `[..., M, N]`."""


class PlainProducts:
    """Products as the BLAS computes them: the last bits of a row may depend on the batch."""

    deterministic = False

    def with_weight(self, weight: Tensor) -> FixedProduct:
        """`torch.matmul` with `weight [..., K, N]`."""
        return partial(_times, torch.matmul, weight)


class StableProducts:
    """Tries the candidates for each weight and takes the fastest whose rows are stable on this machine."""

    deterministic = True

    def __init__(self, candidates: Sequence[RowProduct] = CANDIDATES) -> None:
        self._candidates = candidates
        self._chosen: dict[tuple[object, ...], RowProduct] = {}

    def with_weight(self, weight: Tensor) -> FixedProduct:
        """The product with `weight [..., K, N]`; one trial per shape, layout and dtype.

        Raises InternalError if not even tiles are stable: then this machine cannot be deterministic.
        """
        key = (weight.shape, weight.stride(), weight.dtype, weight.device)
        if key not in self._chosen:
            self._chosen[key] = self._choose(weight)
        return partial(_in_pieces, self._chosen[key], weight)

    def _choose(self, weight: Tensor) -> RowProduct:
        generator = torch.Generator().manual_seed(1)
        shape = (*weight.shape[:-2], PROBE_BATCH, weight.shape[-2])
        rows = torch.randn(shape, generator=generator).to(device=weight.device, dtype=weight.dtype)
        for candidate in self._candidates:
            if rows_are_stable(partial(_times, candidate, weight), rows):
                return candidate
        raise InternalError(f"no matrix product with stable rows for a weight of shape {list(weight.shape)}")


def _in_pieces(product: RowProduct, weight: Tensor, x: Tensor) -> Tensor:
    if x.shape[-2] <= MOST_ROWS:
        return product(x, weight)
    return torch.cat([product(piece, weight) for piece in x.split(MOST_ROWS, dim=-2)], dim=-2)


def _times(product: RowProduct, weight: Tensor, x: Tensor) -> Tensor:
    return product(x, weight)


class Products(Protocol):
    """Makes a model's matrix products."""

    @property
    def deterministic(self) -> bool:
        """Whether rows keep their bits in any batch."""

    def with_weight(self, weight: Tensor) -> FixedProduct:
        """The product with `weight [..., K, N]`, which may be kept in another layout."""
