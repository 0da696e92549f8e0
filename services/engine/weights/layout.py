"""Assigns a checkpoint's tensors to shards."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.errors import ConfigError
from services.engine.weights.expected import StoredTensor
from services.engine.weights.names import TEXT_PREFIX

_LAYERS = f"{TEXT_PREFIX}model.layers."


def published_layout(tensors: Mapping[str, StoredTensor]) -> list[dict[str, StoredTensor]]:
    """A shard for each layer, then for embedding, norm and head, for the projector, for the vision tower."""
    groups: dict[tuple[int, int], dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(_place(name), {})[name] = tensor
    return [groups[place] for place in sorted(groups)]


def even_layout(tensors: Mapping[str, StoredTensor], shards: int) -> list[dict[str, StoredTensor]]:
    """`shards` of about the same size, in the order of `tensors`; raises ConfigError if there are too few."""
    if not 1 <= shards <= len(tensors):
        raise ConfigError(
            f"--shards must be from 1 to {len(tensors):,}, the number of tensors, not {shards:,}"
        )
    total = sum(tensor.nbytes for tensor in tensors.values())
    groups: list[dict[str, StoredTensor]] = [{}]
    written = 0
    for position, (name, tensor) in enumerate(tensors.items()):
        full = written * shards >= total * len(groups)
        needed = len(tensors) - position <= shards - len(groups)
        if groups[-1] and len(groups) < shards and (full or needed):
            groups.append({})
        groups[-1][name] = tensor
        written += tensor.nbytes
    return groups


def _place(name: str) -> tuple[int, int]:
    if name.startswith(_LAYERS):
        return 0, int(name.removeprefix(_LAYERS).partition(".")[0])
    if name.startswith(TEXT_PREFIX):
        return 1, 0
    return (2, 0) if name.startswith("mm_projector.") else (3, 0)
