"""One of the processes that share one model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.common.errors import ConfigError

_EXPERT = re.compile(r"\.mlp\.experts\.(\d+)\.")


@dataclass(frozen=True)
class Rank:
    """Process `index`, from 0, of the `count` processes that split a model. Raises ConfigError if there is no
    such process.

    `whole_experts`: each rank has some of the routed experts in full, not a part of the width of every one
    (expert parallelism). `whole_attention`: each rank has all heads, and attends for some of the sequences
    (data-parallel attention).
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
        """Whether the sequences of a batch are distributed over the ranks."""
        return self.whole_attention and self.count > 1

    def heads(self, count: int) -> int:
        """How many of a model's heads this rank has."""
        return count if self.whole_attention else count // self.count

    def experts(self, count: int) -> range:
        """The indices of the routed experts, of `count`, that this rank has in full or in part; raises
        ConfigError if whole experts cannot be divided equally.
        """
        if not self.whole_experts:
            return range(count)
        if count % self.count:
            raise ConfigError(f"expert parallelism over {self.count} ranks does not divide {count} experts")
        each = count // self.count
        return range(self.index * each, (self.index + 1) * each)

    def has(self, name: str, experts: int) -> bool:
        """Whether this rank needs any part of the tensor with this published name, in a model of `experts`
        experts.
        """
        found = _EXPERT.search(name)
        return found is None or int(found[1]) in self.experts(experts)

    def splits(self, name: str) -> bool:
        """Whether this rank has only a part of a tensor that a group can split."""
        if self.whole_attention and ".self_attn." in name:
            return False
        return not (self.whole_experts and _EXPERT.search(name))


ALONE = Rank(0, 1)
"""The rank of a model that is not split."""
