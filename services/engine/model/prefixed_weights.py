"""The weights of a part of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor


class PrefixedWeights(Mapping[str, Tensor]):
    """The tensors of `weights` under a prefix, named without it. Reads a tensor only on access, so that
    weights which are still in files are read one by one.
    """

    def __init__(self, weights: Mapping[str, Tensor], prefix: str) -> None:
        self._weights = weights
        self._prefix = prefix

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[f"{self._prefix}{name}"]

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._weights

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._weights if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
