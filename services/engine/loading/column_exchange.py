"""Reads a matrix that ranks share by columns once: each rank reads some rows, and they exchange the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from torch import Tensor

from services.engine.model.tensor_group import TensorGroup


class ColumnExchange(Mapping[str, Tensor]):
    """This rank's share of every tensor, made of `tensors`, which has its rows of the `exchanged` ones.

    A page of the file has columns of all ranks, so each would read all of it. Every access to an exchanged
    tensor is a collective operation.
    """

    def __init__(self, tensors: Mapping[str, Tensor], exchanged: Collection[str], group: TensorGroup) -> None:
        self._tensors = tensors
        self._exchanged = frozenset(exchanged)
        self._group = group

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        return self._group.columns(tensor) if name in self._exchanged else tensor

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
