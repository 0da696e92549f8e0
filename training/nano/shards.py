"""Splits tensors into shards small enough for a repository."""

from __future__ import annotations

from collections.abc import Mapping

from services.engine.weights.expected import StoredTensor


def small_shards(tensors: Mapping[str, StoredTensor], max_bytes: int) -> list[dict[str, StoredTensor]]:
    """Shards of at most `max_bytes` each, in the order of `tensors`."""
    groups: list[dict[str, StoredTensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if groups[-1] and filled + tensor.nbytes > max_bytes:
            groups.append({})
            filled = 0
        groups[-1][name] = tensor
        filled += tensor.nbytes
    return groups
