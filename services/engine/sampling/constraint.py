"""What the next token of one choice is held to."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class RowConstraint(Protocol):
    """Asked once per token, for a row whose preparation is over; outranks every other control."""

    def restrict(self, row: npt.NDArray[np.float32]) -> None:
        """Sets to -inf, in place, all of `row`, [V] logits, that may not come next.

        Raises InternalError, naming the request, where the grammar itself has failed.
        """

    def settle(self, token_id: int) -> int:
        """The token to take where `token_id` was chosen: nearly always that."""
