"""What the next token of one choice is held to."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.engine.sampling.outcome import SampledToken


class RowConstraint(Protocol):
    """Asked once per token, for a row whose preparation is over; outranks every other control."""

    def allowed(self) -> npt.NDArray[np.uint8]:
        """[ceil(V / 8)] or more: a bit for each token, lowest first, that says whether it may come next. Not
        to be written to.

        Raises an error naming the request where the grammar has failed, or takes more than it may.
        """

    def settle(self, token_id: int) -> int:
        """The token to take where `token_id` was chosen: nearly always that."""


def hold(row: npt.NDArray[np.float32], allowed: npt.NDArray[np.uint8]) -> None:
    """Sets to -inf, in place, all of `row`, [V] logits, that is not allowed."""
    row[np.unpackbits(allowed, count=len(row), bitorder="little") == 0] = -np.inf


def settle(constraint: RowConstraint | None, drawn_id: int) -> SampledToken:
    """The token that is taken."""
    token_id = drawn_id if constraint is None else constraint.settle(drawn_id)
    return SampledToken(token_id, drawn_id=None if token_id == drawn_id else drawn_id)
