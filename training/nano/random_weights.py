"""Random weights whose greedy continuations are varied and depend on every token of the prompt."""

from __future__ import annotations

from torch import Tensor

from services.engine.weights.expected import StoredTensor
from services.engine.weights.random_values import random_tensor

# Special tokens end or garble a text, so they are made improbable but not impossible. The gain is a power of
# two, which causes no rounding.
SPECIAL_HEAD_GAIN = 0.5


def nano_tensor(name: str, stored: StoredTensor, num_ranks: int, seed: int) -> Tensor:
    """A tensor of the checkpoint. Rows of the head from `num_ranks` on belong to special tokens."""
    tensor = random_tensor(name, stored, seed)
    if name == "language_model.lm_head.weight":
        tensor[num_ranks:] *= SPECIAL_HEAD_GAIN
    return tensor
