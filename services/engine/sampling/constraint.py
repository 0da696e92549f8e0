"""The constraint on the next token of one choice."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.engine.sampling.outcome import SampledToken


class RowConstraint(Protocol):
    """Called once per token, for a row whose preparation is over; outranks every other control."""

    def allowed(self) -> npt.NDArray[np.uint8]:
        """[ceil(V / 8)] or more: one bit for each token, lowest first, that is set if the token may come
        next. Must not be written to.

        Raises an error that names the request if the grammar has failed or exceeds its limits.
        """

    def substitute(self, token_id: int) -> int:
        """The token to take in place of the chosen `token_id`: nearly always itself."""


def hold(row: npt.NDArray[np.float32], allowed: npt.NDArray[np.uint8]) -> None:
    """Sets to -inf, in place, all of `row`, [V] logits, that is not allowed."""
    row[np.unpackbits(allowed, count=len(row), bitorder="little") == 0] = -np.inf


def constrained(constraint: RowConstraint | None, drawn_id: int) -> SampledToken:
    """The token to take after `drawn_id` was drawn."""
    token_id = drawn_id if constraint is None else constraint.substitute(drawn_id)
    return SampledToken(token_id, drawn_id=None if token_id == drawn_id else drawn_id)
