"""What choosing a token gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.common.errors import InternalError


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token; where the spec asks for logprobs, also its own and the likeliest (id, logprob) pairs."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


Outcome: TypeAlias = SampledToken | InternalError


def nothing_left(row: int) -> InternalError:
    """For a row whose own controls exclude every token."""
    return InternalError(f"bias, penalties and constraint leave no token to choose in row {row}")
