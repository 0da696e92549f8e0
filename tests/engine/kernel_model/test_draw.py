"""Tokens drawn by the kernel are those that are drawn on the host."""

from __future__ import annotations

import pytest
import torch

from services.engine.sampling.sampler import SampledToken, Sampler
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState
from tests.engine.kernel_model import runs
from tests.kernels.interpreter import Interpreter

VOCAB = 400
SPECS = [
    SamplingSpec(temperature=1.0),
    SamplingSpec(temperature=0.0),
    SamplingSpec(temperature=0.7, top_p=0.9),
    SamplingSpec(temperature=1.3, top_k=7),
    SamplingSpec(temperature=1.0, min_p=0.05, top_p=0.95, top_k=50),
    SamplingSpec(temperature=1.0, presence_penalty=1.0),
    SamplingSpec(temperature=1.0, logprobs=True, top_logprobs=2),
    SamplingSpec(temperature=1.0, logit_bias=((3, 50.0),)),
]


@pytest.fixture
def states():
    seeds = enumerate((0, 1, 2**63 - 1, 2**63, 2**64 - 1))
    return [SamplingState(spec, seed, at, [1], [2, 3]) for at, seed in seeds for spec in SPECS]


def test_every_row_has_the_token_it_has_on_the_host_whatever_it_needs(states):
    logits = 3 * torch.randn(len(states), VOCAB, generator=torch.Generator().manual_seed(4))
    interpreter = Interpreter()
    try:
        drawn = interpreter(runs.sampled, logits, states)
    finally:
        interpreter.close()
    for there, here in zip(drawn, Sampler(VOCAB).sample(logits, states), strict=True):
        assert there.token_id == here.token_id
        assert there.logprob == pytest.approx(here.logprob, abs=1e-9)
        assert dict(there.top) == pytest.approx(dict(here.top), abs=1e-9)


def test_every_row_that_is_not_greedy_is_drawn_where_the_logits_are(states):
    drawn = []

    def draw(logits, rows):
        drawn.extend(row.spec for row in rows)
        return torch.full((len(rows),), 17)

    logits = torch.randn(len(states), VOCAB)
    outcomes = Sampler(VOCAB, draw).sample(logits, states)
    assert {SPECS.index(spec) for spec in drawn} == {0, 2, 3, 4, 5, 6, 7}
    assert [outcome.token_id == 17 for outcome in outcomes].count(True) >= len(drawn)


def test_a_row_without_a_maximum_fails_alone(states):
    logits = torch.randn(len(states), VOCAB)
    logits[0] = float("nan")
    draw = Sampler(VOCAB, lambda rows, states: torch.zeros(len(rows), dtype=torch.int64))
    failed, *others = draw.sample(logits, states)
    assert "maximum" in failed.message
    assert all(isinstance(outcome, SampledToken) for outcome in others)
