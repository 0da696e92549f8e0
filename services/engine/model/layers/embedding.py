"""The embedding of tokens, whose rows are split over a group's ranks."""

from __future__ import annotations

from torch import Tensor

from services.engine.model.tensor_group import TensorGroup


class Embedding:
    """`weight [vocab / ranks, hidden]` holds this rank's rows."""

    def __init__(self, weight: Tensor, group: TensorGroup) -> None:
        self.weight = weight
        self._group = group

    def __call__(self, token_ids: Tensor) -> Tensor:
        """int64 `[T]` -> `[T, hidden]`, the same on every rank."""
        return self._group.sum(self._own(token_ids))

    def _own(self, token_ids: Tensor) -> Tensor:
        """This rank's part: zeros for tokens whose embedding another rank has."""
        rank = self._group.rank
        if rank.count == 1:
            return self.weight[token_ids]
        rows = token_ids - rank.index * len(self.weight)
        elsewhere = (rows < 0) | (rows >= len(self.weight))
        return self.weight[rows.masked_fill(elsewhere, 0)].masked_fill(elsewhere.unsqueeze(1), 0.0)
