"""Assigns a checkpoint's tensors to shards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from services.common.errors import ConfigError
from services.engine.weights.expected import StoredTensor

_LAYER = re.compile(r"\bmodel\.layers\.(\d+)\.")


def published_layout(
    tensors: Mapping[str, StoredTensor], vision_prefixes: Sequence[str]
) -> list[dict[str, StoredTensor]]:
    """A shard for each layer, then for embedding, norm and head, then for each of `vision_prefixes`."""
    groups: dict[tuple[int, int], dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(_place(name, tensor, vision_prefixes), {})[name] = tensor
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


def _place(name: str, tensor: StoredTensor, vision_prefixes: Sequence[str]) -> tuple[int, int]:
    if not tensor.is_text:
        return 2, next(at for at, prefix in enumerate(vision_prefixes) if name.startswith(prefix))
    layer = _LAYER.search(name)
    return (1, 0) if layer is None else (0, int(layer[1]))
