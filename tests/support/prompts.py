"""Random prompts."""

from __future__ import annotations

import random


def random_prompt(num_tokens: int, seed: object) -> list[int]:
    """`num_tokens` ids of ordinary tokens, the same for the same arguments and different for others."""
    draw = random.Random(f"{num_tokens}/{seed}")
    return [draw.randrange(256, 1280) for _ in range(num_tokens)]
