"""Which part of each stored tensor a rank has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from services.common.errors import ConfigError
from services.engine.model.rank import Rank
from services.engine.model.tensor_names import Shape
from services.engine.weights.expected import StoredTensor


@dataclass(frozen=True)
class Share:
    """A part of a stored tensor: values of shape `shape`, stored as `runs` runs of `run` values, which begin
    `pitch` values apart, the first of them at value `first`.
    """

    shape: Shape
    first: int
    runs: int
    run: int
    pitch: int

    @classmethod
    def whole(cls, shape: Shape) -> Self:
        """All of a tensor."""
        values = math.prod(shape)
        return cls(shape, 0, 1, values, values)

    @classmethod
    def part(cls, shape: Shape, dim: int, rank: Rank) -> Self:
        """The rank's part of equal parts along `dim`; the number of ranks must divide that dimension."""
        length = shape[dim] // rank.count
        inner = math.prod(shape[dim + 1 :])
        size = (*shape[:dim], length, *shape[dim + 1 :])
        run = length * inner
        return cls(size, rank.index * run, math.prod(shape[:dim]), run, shape[dim] * inner)

    @property
    def values(self) -> int:
        """Number of values."""
        return self.runs * self.run

    @property
    def span(self) -> int:
        """Number of values from the first to the last, including those between runs."""
        return (self.runs - 1) * self.pitch + self.run


def shares_of(tensors: Mapping[str, StoredTensor], rank: Rank) -> dict[str, Share]:
    """The rank's share of every tensor that a group splits; every rank has the other tensors in full.

    Raises ConfigError, which names the first tensor without equal parts of whole heads or whole int4 groups.
    """
    shares: dict[str, Share] = {}
    for name, tensor in tensors.items():
        if tensor.split_dim is None or not rank.splits(name):
            continue
        length, unit = tensor.shape[tensor.split_dim], tensor.split_unit
        if length % (unit * rank.count):
            raise ConfigError(
                f"tensor parallelism over {rank.count} ranks does not divide {name}: dimension"
                f" {tensor.split_dim} of {list(tensor.shape)} is {length // unit} indivisible parts of {unit}"
            )
        shares[name] = Share.part(tensor.shape, tensor.split_dim, rank)
    return shares


def row_shares_of(tensors: Mapping[str, StoredTensor], rank: Rank) -> dict[str, Share]:
    """The rank's part of the rows of every matrix that a group splits by columns, where the ranks can have
    equal ones: what a rank reads if the ranks exchange columns.
    """
    return {
        name: Share.part(tensor.shape, 0, rank)
        for name, tensor in tensors.items()
        if tensor.split_dim == 1 and rank.count > 1 and rank.splits(name) and not tensor.shape[0] % rank.count
    }
