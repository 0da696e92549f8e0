"""Which part of each stored tensor a rank of a group of processes has."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from services.common.errors import ConfigError
from services.engine.weights.expected import StoredTensor
from services.engine.weights.names import Shape

_EXPERT = re.compile(r"\.mlp\.experts\.(\d+)\.")


@dataclass(frozen=True)
class Rank:
    """The `index`-th, from 0, of `count` processes that split a model; ConfigError where there is none.

    `whole_experts`: each has some of the routed experts, not a part of the width of every one (expert
    parallelism). `whole_attention`: each has all heads, and attends for some of the sequences (data-parallel
    attention).
    """

    index: int
    count: int
    whole_experts: bool = False
    whole_attention: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"a tensor-parallel group has at least 1 rank, not {self.count}")
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"a tensor-parallel group of {self.count} has ranks 0 to {self.count - 1}, not {self.index}"
            )

    @property
    def attends_for_some(self) -> bool:
        """Whether the sequences of a batch are dealt out."""
        return self.whole_attention and self.count > 1

    def heads(self, count: int) -> int:
        """How many of a model's heads it has."""
        return count if self.whole_attention else count // self.count

    def experts(self, count: int) -> range:
        """Those of `count` routed experts of which this rank has anything; ConfigError where the ranks cannot
        have equally many whole ones.
        """
        if not self.whole_experts:
            return range(count)
        if count % self.count:
            raise ConfigError(f"expert parallelism over {self.count} ranks does not divide {count} experts")
        each = count // self.count
        return range(self.index * each, (self.index + 1) * each)

    def has(self, name: str, experts: int) -> bool:
        """Whether it needs anything of the tensor with this published name, in a model of so many experts."""
        found = _EXPERT.search(name)
        return found is None or int(found[1]) in self.experts(experts)

    def splits(self, name: str) -> bool:
        """Whether it has a part of a tensor that a group can split, and not all of it."""
        if self.whole_attention and ".self_attn." in name:
            return False
        return not (self.whole_experts and _EXPERT.search(name))


ALONE = Rank(0, 1)
"""Of a model that is not split."""


@dataclass(frozen=True)
class Share:
    """Values of shape `shape` that lie in a stored tensor as `runs` runs of `run` values, their beginnings
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
        """The rank's of equal parts along `dim`, which the group divides."""
        length = shape[dim] // rank.count
        inner = math.prod(shape[dim + 1 :])
        size = (*shape[:dim], length, *shape[dim + 1 :])
        run = length * inner
        return cls(size, rank.index * run, math.prod(shape[:dim]), run, shape[dim] * inner)

    @property
    def values(self) -> int:
        """How many there are."""
        return self.runs * self.run

    @property
    def span(self) -> int:
        """From the first to the last of them, with what lies between."""
        return (self.runs - 1) * self.pitch + self.run


def shares_of(tensors: Mapping[str, StoredTensor], rank: Rank) -> dict[str, Share]:
    """Of every tensor that a group splits, the rank's part; of all others every rank has the whole.

    ConfigError names the first tensor that has no equal parts of whole heads or whole int4 groups.
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
