"""How long a prompt waits for its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from services.common.fairness.share import served_meanwhile
from services.decode.request import Prompt


def tokens_before(prompt: Prompt, left: Iterable[tuple[Prompt, int]]) -> int:
    """Number of tokens that this worker computes before those of `prompt`: of its own tenant all that are not
    behind it, of another one what its weight gives it in that time.

    `left`: the prompts that are here, each with the number of tokens to compute here.
    """
    own, others = prompt.num_tokens - prompt.computed, Counter[tuple[int, int]]()
    before = 0
    for other, tokens in left:
        if other.tenant != prompt.tenant:
            others[other.tenant, other.weight] += tokens
        elif other.priority >= prompt.priority:
            before += tokens
    waiting = ((weight, tokens) for (_, weight), tokens in others.items())
    return before + served_meanwhile(waiting, before + own, prompt.weight)
