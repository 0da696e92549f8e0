"""The draw of tokens."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from kernels import sampling
from kernels.reference import sampling as reference
from services.engine.sampling import philox
from services.engine.sampling.draw import draw_token
from services.engine.sampling.spec import SamplingSpec

SETTINGS = [
    # temperature, top_k, top_p, min_p
    (1.0, 0, 1.0, 0.0),
    (0.6, 0, 0.95, 0.0),
    (1.0, 1500, 1.0, 0.0),
    (1.3, 20, 0.8, 0.0),
    (1.0, 0, 1.0, 0.05),
    (2.0, 50, 0.9, 0.1),
    (0.0, 0, 1.0, 0.0),
    (1.0, 1, 1.0, 0.0),
    (1.0, 0, 1e-9, 0.0),
]


def signed(seed):
    """A 64-bit pattern as int64."""
    return seed - 2**64 if seed >= 2**63 else seed


def make_rows(settings, seed=0):
    draw = random.Random(seed)
    count = len(settings)
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*settings, strict=True)]
    return sampling.SamplingRows(
        temperature=columns[0],
        top_k=columns[1].to(torch.int32),
        top_p=columns[2],
        min_p=columns[3],
        seed=torch.tensor([signed(draw.getrandbits(64)) for _ in range(count)]),
        choice=torch.tensor([draw.randrange(8) for _ in range(count)]),
        position=torch.tensor([draw.randrange(10**5) for _ in range(count)]),
    )


def make_logits(count, vocabulary, seed=0, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    # Rounded, so that there are equal ones.
    return (torch.randn(count, vocabulary, generator=generator) * spread * 32).round() / 32


def draws(rows):
    """The engine's uniform number of each row."""
    places = zip(rows.seed.tolist(), rows.choice.tolist(), rows.position.tolist(), strict=True)
    return [philox.uniform(seed % 2**64, choice, position) for seed, choice, position in places]


def test_draws_are_bit_for_bit_the_engines(interpreter):
    seeds = [0, 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15]
    choices, positions = [0, 7, 0, 2**31, 1], [0, 1, 2**33 + 5, 12, 40000]
    as_tensors = [
        torch.tensor([signed(seed) for seed in seeds]),
        torch.tensor(choices),
        torch.tensor(positions),
    ]
    out = interpreter(sampling.draw_uniform, *as_tensors).tolist()
    wanted = [philox.uniform(*place) for place in zip(seeds, choices, positions, strict=True)]
    assert out == wanted
    assert [reference.uniform(*place) for place in zip(seeds, choices, positions, strict=True)] == wanted


@pytest.mark.parametrize("vocabulary", [64, 3000])
def test_tokens_are_the_engines_under_all_filters(interpreter, vocabulary):
    settings = SETTINGS * 2
    rows, logits = make_rows(settings), make_logits(len(settings), vocabulary)
    tokens = interpreter(sampling.sample, logits, rows).tolist()
    for token, row, setting, draw in zip(tokens, logits, settings, draws(rows), strict=True):
        temperature, top_k, top_p, min_p = setting
        assert token == reference.draw_token(row, temperature, top_k, top_p, min_p, draw)
        if temperature > 0:
            spec = SamplingSpec(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
            assert token == draw_token(row.numpy().astype(np.float32), spec, draw)


def test_a_flat_row_is_drawn_from_all_of_it(interpreter):
    # 3,000 equal logits: the draw's share of them, far behind the first block.
    rows = make_rows([(1.0, 0, 1.0, 0.0)] * 6)
    tokens = interpreter(sampling.sample, torch.zeros(6, 3000), rows).tolist()
    assert tokens == [int(draw * 3000) for draw in draws(rows)]


def test_forbidden_tokens_are_never_drawn(interpreter):
    logits = torch.full((4, 2000), float("-inf"))
    logits[:, 1234] = -5.0
    assert interpreter(sampling.sample, logits, make_rows([(1.0, 0, 1.0, 0.0)] * 4)).tolist() == [1234] * 4


def test_of_equal_logits_the_best_is_the_lowest_index(interpreter):
    assert interpreter(sampling.sample, torch.zeros(1, 100), make_rows([(0.0, 0, 1.0, 0.0)])).tolist() == [0]


def test_rows_without_a_finite_maximum_still_give_a_token(interpreter):
    logits = torch.stack([torch.full((50,), float("nan")), torch.full((50,), float("-inf"))])
    tokens = interpreter(sampling.sample, logits, make_rows([(1.0, 0, 0.9, 0.1)] * 2))
    assert ((tokens >= 0) & (tokens < 50)).all()


def test_rows_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="for 3 rows of logits"):
        sampling.sample(torch.zeros(3, 10), make_rows(SETTINGS[:2]))
