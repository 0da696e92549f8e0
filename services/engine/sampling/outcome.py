"""What choosing a token gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from services.common.errors import InternalError, PerigeeError


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token; where the spec asks for logprobs, also its own and the likeliest (id, logprob) pairs.

    `drawn_id`: the one that was drawn, where the constraint took another in its place.
    """

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    drawn_id: int | None = None


Outcome: TypeAlias = SampledToken | PerigeeError


@dataclass(frozen=True)
class Drawn:
    """What a batch gave. `ids` int64 `[R]`, where the logits are: what was drawn, good as input of the next
    step before the host knows it. `outcomes`: to be called when a DeviceEvent behind it came.
    """

    ids: Tensor
    outcomes: Callable[[], list[Outcome]]


def nothing_left(row: int) -> InternalError:
    """For a row whose own controls exclude every token."""
    return InternalError(f"bias, penalties and constraint leave no token to choose in row {row}")
