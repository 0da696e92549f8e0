"""What is chosen where the logits are is what the host would choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.common.errors import InternalError
from services.engine.sampling.draw import draw_token
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState
from tests.engine.sampling.test_constraint import VOCAB, Only

SPECS = [
    SamplingSpec(presence_penalty=1.0),
    SamplingSpec(frequency_penalty=0.7, temperature=0.0),
    SamplingSpec(repetition_penalty=1.3, top_p=0.9),
    SamplingSpec(presence_penalty=-0.5, frequency_penalty=0.3, repetition_penalty=0.8, temperature=0.0),
    SamplingSpec(logit_bias=((3, 4.0), (9, -4.0)), top_k=3),
    SamplingSpec(min_tokens=40, stop_token_ids=frozenset(range(0, VOCAB, 2)), temperature=0.0),
    SamplingSpec(logprobs=True, top_logprobs=7),
    SamplingSpec(logprobs=True, temperature=0.0),
    SamplingSpec(logprobs=True, top_logprobs=20, logit_bias=((7, 100.0),)),
    SamplingSpec(),
    SamplingSpec(temperature=0.0),
]


def draw(logits, states):
    """On the host, row by row, as `draw_on_device` documents it."""
    with np.errstate(invalid="ignore"):  # of rows in which nothing is left
        rows = zip(logits.numpy(), states, strict=True)
        return torch.tensor([draw_token(row, state.spec, state.uniform()) for row, state in rows])


def logits_of(rows, seed=0):
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def state_of(spec, number, constraint=None):
    state = SamplingState(spec, number, number % 3, [1, 2, 2, 8], [number % VOCAB, 5, 5, 2 * number % VOCAB])
    state.constraint = constraint
    return state


def check_alike(states, logits):
    here, there = Sampler(VOCAB).sample(logits, states), Sampler(VOCAB, draw).sample(logits, states)
    for one, other in zip(here, there, strict=True):
        if isinstance(one, InternalError):
            assert isinstance(other, InternalError)
            assert other.message == one.message
            continue
        assert other.token_id == one.token_id
        assert other.logprob == pytest.approx(one.logprob, abs=1e-9)
        assert [token for token, _ in other.top] == [token for token, _ in one.top]
        assert [value for _, value in other.top] == pytest.approx([value for _, value in one.top], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_every_control_gives_the_hosts_tokens_and_logprobs(seed):
    states = [state_of(SPECS[row % len(SPECS)], row) for row in range(60)]
    check_alike(states, logits_of(60, seed))


@pytest.mark.parametrize("seed", range(5))
def test_constrained_rows_give_the_hosts_tokens(seed):
    only = [Only(7, 9), Only(3), Only(*range(10, 30)), Only(7, 9, instead={7: 4, 9: 4}), None]
    states = [state_of(SPECS[row % len(SPECS)], row, only[row % len(only)]) for row in range(60)]
    check_alike(states, logits_of(60, seed))


def test_masks_of_different_length_are_held_to_alike():
    class Longer(Only):
        """With bits beyond the vocabulary, as a grammar's masks have them."""

        def allowed(self):
            return np.concatenate([super().allowed(), np.array([255, 255, 255], np.uint8)])

    states = [state_of(SPECS[0], 0, Longer(3, 4)), state_of(SPECS[0], 1, Only(5, 6))]
    check_alike(states, logits_of(2))


def test_a_constraint_outranks_bias_and_minimum_length():
    spec = SamplingSpec(min_tokens=9, stop_token_ids=frozenset((7,)), logit_bias=((7, -100.0), (8, 100.0)))
    [token] = Sampler(VOCAB, draw).sample(logits_of(1), [state_of(spec, 0, Only(7))])
    assert token.token_id == 7


def test_rows_that_fail_fail_alone_and_by_the_hosts_words():
    nothing = SamplingSpec(min_tokens=9, stop_token_ids=frozenset(range(VOCAB)))
    plain = SamplingSpec(temperature=0.0)
    states = [
        state_of(plain, 0),
        state_of(SPECS[0], 1),
        state_of(nothing, 2),
        state_of(SPECS[6], 3, Only()),
        state_of(SPECS[1], 4, Only(3, error="the grammar of request r failed")),
        state_of(SPECS[6], 5),
    ]
    check_alike(states, logits_of(6))
    failed = [isinstance(each, InternalError) for each in Sampler(VOCAB, draw).sample(logits_of(6), states)]
    assert failed == [False, False, True, True, True, False]


def test_of_equal_logits_the_lower_ids_are_the_likelier():
    logits = torch.zeros(1, VOCAB)
    logits[0, :20] = -0.0
    logits[0, 40] = 1.0
    [token] = Sampler(VOCAB, draw).sample(logits, [state_of(SamplingSpec(logprobs=True, top_logprobs=5), 0)])
    assert [token_id for token_id, _ in token.top] == [40, 0, 1, 2, 3]


def test_the_logits_stay_as_they_are():
    logits = logits_of(len(SPECS))
    before = logits.clone()
    Sampler(VOCAB, draw).sample(logits, [state_of(spec, row) for row, spec in enumerate(SPECS)])
    assert torch.equal(logits, before)
