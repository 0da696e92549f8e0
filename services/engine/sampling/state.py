"""Sampling state of one choice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from services.common.errors import InternalError
from services.engine.sampling.constraint import RowConstraint
from services.engine.sampling.philox import uniform
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.token_counts import TokenCounts


class SamplingState:
    """One choice of one request. Rebuilt from prompt and outputs, it continues exactly where it stopped.

    seed: 0 .. 2**64 - 1. choice: index among the request's choices. output_ids: tokens generated so far,
    elsewhere or here; grow them by `append` only. `constraint`: the constraint on the tokens, if there is
    one.
    """

    def __init__(
        self,
        spec: SamplingSpec,
        seed: int,
        choice: int,
        prompt_ids: Sequence[int],
        output_ids: Iterable[int] = (),
    ) -> None:
        if not 0 <= seed < 2**64 or not 0 <= choice < 2**32:
            raise InternalError(f"seed {seed} or choice {choice} does not fit the generator")
        self.spec = spec
        self.seed = seed
        self.choice = choice
        self.constraint: RowConstraint | None = None
        self.output_ids: list[int] = []
        self.generated = TokenCounts() if spec.counts_output else None
        self.seen = TokenCounts(prompt_ids) if spec.counts_prompt else None
        self.bias_ids = np.array([token_id for token_id, _ in spec.logit_bias], dtype=np.int64)
        self.bias = np.array([addend for _, addend in spec.logit_bias], dtype=np.float32)
        self.stop_ids = np.array(sorted(spec.stop_token_ids), dtype=np.int64)
        for token_id in output_ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        """Appends a sampled token to the outputs."""
        self.output_ids.append(token_id)
        if self.generated is not None:
            self.generated.add(token_id)
        if self.seen is not None:
            self.seen.add(token_id)

    @property
    def withholds_stops(self) -> bool:
        """Whether min_tokens still excludes stop tokens."""
        return len(self.output_ids) < self.spec.min_tokens and len(self.stop_ids) > 0

    @property
    def adjusts(self) -> bool:
        """Whether the next token is chosen from adjusted logits."""
        return self.constraint is not None or self.spec.adjusts or self.withholds_stops

    def uniform(self) -> float:
        """The random number in [0, 1) of the next output token; repeated calls return the same number."""
        return uniform(self.seed, self.choice, len(self.output_ids))
