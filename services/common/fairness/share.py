"""How much of something bounded one tenant may hold while others may come."""

from __future__ import annotations

from collections.abc import Iterable

_TIMES = 3
"""A tenant of weight 1 that is alone may hold three quarters."""


def within_share(held: float, weight: int, free: float) -> bool:
    """Whether a tenant that holds `held` may have more of what has `free` left.

    A tenant may hold up to three times (for each unit of weight) what is free: one alone gets three quarters,
    two at once three sevenths each, and however many there are, some is always left for the next one. These
    are the dynamic thresholds of Choudhury and Hahne (1998), for shared buffers of switches.
    """
    return held < _TIMES * weight * free


def largest_share(weight: int, total: int) -> int:
    """Returns how many of `total` a tenant may come to hold one by one, by `within_share`, if it is alone."""
    return -(-_TIMES * weight * total // (1 + _TIMES * weight))


def served_meanwhile(others: Iterable[tuple[int, int]], due: int, weight: int) -> int:
    """How much other tenants are given while a tenant of `weight` is given `due`, taking turns.

    `others`: the weight of each, and how much of its own waits.
    """
    return sum(min(waiting, due * other // weight) for other, waiting in others)
