"""Results of choosing a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from services.common.errors import InternalError, PerigeeError


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token; if the spec asks for logprobs, also its own and the likeliest (id, logprob) pairs.

    `drawn_id`: the token that was drawn, if the constraint replaced it by this one.
    """

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    drawn_id: int | None = None


Outcome: TypeAlias = SampledToken | PerigeeError


@dataclass(frozen=True)
class Drawn:
    """Result of sampling a batch. `ids` int64 `[R]`, on the device of the logits: the drawn tokens, which the
    next step can take as input before the host knows them. `outcomes`: call only after a DeviceEvent recorded
    after sampling has completed.
    """

    ids: Tensor
    outcomes: Callable[[], list[Outcome]]


def nothing_left(row: int) -> InternalError:
    """The error for a row whose own controls exclude every token."""
    return InternalError(f"bias, penalties and constraint leave no token to choose in row {row}")
