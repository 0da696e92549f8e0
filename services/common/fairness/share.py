"""How much of something bounded one tenant may hold while others may come."""

from __future__ import annotations

_TIMES = 3
"""A tenant of weight 1 that is alone may hold three quarters."""


def within_share(held: float, weight: int, free: float) -> bool:
    """Whether a tenant that holds `held` may have more of what has `free` left.

    A tenant may hold up to three times (for each unit of weight) what is free: one alone gets three quarters,
    two at once three sevenths each, and however many there are, some is always left for the next one. These
    are the dynamic thresholds of Choudhury and Hahne (1998), for shared buffers of switches.
    """
    return held < _TIMES * weight * free
