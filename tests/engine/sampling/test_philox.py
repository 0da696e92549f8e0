import itertools

import numpy as np
import pytest

from services.engine.sampling.philox import philox4x32, uniform


# Known answers of Random123, tests/kat_vectors.
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_answers(counter, key, answer):
    counter, key, answer = (tuple(int(word, 16) for word in text.split()) for text in (counter, key, answer))
    assert philox4x32(counter, key) == answer


def test_the_uniform_number_has_53_bits_of_the_first_two_words():
    high, low, _, _ = philox4x32((5, 0, 3, 0), (0x89ABCDEF, 0x01234567))
    assert uniform(0x0123456789ABCDEF, 3, 5) == ((high << 32 | low) >> 11) / 2**53


def test_seed_choice_and_position_each_change_the_draw():
    seeds = (0, 1, 2**32, 2**63, 2**64 - 1)
    draws = {uniform(*key) for key in itertools.product(seeds, range(4), (0, 1, 2**32))}
    assert len(draws) == len(seeds) * 4 * 3


def test_draws_are_uniform_and_uncorrelated():
    draws = np.array([uniform(7, 0, position) for position in range(20_000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    counts, _ = np.histogram(draws, bins=50, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 95  # chi-square, 49 degrees of freedom: p = 1e-4 at 94
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03
