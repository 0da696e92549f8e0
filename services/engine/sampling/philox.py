"""Random numbers as a function of where they are used, without any state."""

from __future__ import annotations

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10 of 32-bit words.

    Algorithm and constants: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers:
    as easy as 1, 2, 3", SC11, doi 10.1145/2063384.2063405; known answers: Random123, tests/kat_vectors.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (right >> 32) ^ c1 ^ k0, right & _WORD, (left >> 32) ^ c3 ^ k1, left & _WORD
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def uniform(seed: int, choice: int, position: int) -> float:
    """The number in [0, 1) that draws output token `position` of a choice: a multiple of 2**-53.

    The key is the 64-bit seed; the counter is the position (two words), the choice, and zero: no two draws of
    a seed share a counter.
    """
    counter = (position & _WORD, position >> 32, choice, 0)
    high, low, _, _ = philox4x32(counter, (seed & _WORD, seed >> 32))
    return ((high << 32 | low) >> 11) * 2.0**-53
