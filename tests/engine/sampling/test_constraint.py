"""A row under a constraint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.common.errors import InternalError
from services.engine.sampling.row_logits import token_logprobs
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState

VOCAB = 50


class Only:
    """Allows a few tokens, and takes another than was chosen where told so."""

    def __init__(self, *allowed: int, instead: dict[int, int] | None = None, error: str = "") -> None:
        self.tokens, self.instead, self.error = allowed, instead or {}, error

    def allowed(self):
        if self.error:
            raise InternalError(self.error)
        return np.packbits(np.isin(np.arange(VOCAB), self.tokens), bitorder="little")

    def substitute(self, token_id):
        return self.instead.get(token_id, token_id)


def sample(constraint, spec=SamplingSpec(), rows: int = 1):  # noqa: B008 - a frozen value
    logits = torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(5))
    states = [SamplingState(spec, row, 0, [1]) for row in range(rows)]
    states[0].constraint = constraint
    return logits, Sampler(VOCAB).sample(logits, states)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_what_is_allowed_is_chosen(temperature):
    for top_k, top_p in ((0, 1.0), (40, 0.5)):
        spec = SamplingSpec(temperature=temperature, top_k=top_k, top_p=top_p)
        _, [token] = sample(Only(7, 9), spec)
        assert token.token_id in (7, 9)


def test_the_constraint_outranks_minimum_length_and_bias():
    spec = SamplingSpec(min_tokens=9, stop_token_ids=frozenset((7,)), logit_bias=((7, -100.0), (8, 100.0)))
    _, [token] = sample(Only(7), spec)
    assert token.token_id == 7


def test_where_the_constraint_leaves_a_choice_bias_and_minimum_length_count():
    spec = SamplingSpec(min_tokens=9, stop_token_ids=frozenset((7,)), logit_bias=((9, 100.0),))
    _, [token] = sample(Only(7, 8, 9), spec)
    assert token.token_id == 9


def test_logprobs_stay_those_of_the_model():
    spec = SamplingSpec(logprobs=True, top_logprobs=3)
    logits, [token] = sample(Only(7), spec)
    assert (token.logprob, token.top) == token_logprobs(logits[0].numpy(), 7, 3)


def test_a_token_taken_in_place_of_the_chosen_one_has_its_own_logprob():
    logits, [token] = sample(Only(7, instead={7: 3}), SamplingSpec(logprobs=True))
    assert token.token_id == 3
    assert token.logprob == token_logprobs(logits[0].numpy(), 3, 0)[0]


@pytest.mark.parametrize("constraint", [Only(), Only(3, error="the grammar of request r failed")])
def test_a_constraint_that_allows_nothing_fails_its_row_alone(constraint):
    _, (failed, other) = sample(constraint, rows=2)
    assert isinstance(failed, InternalError)
    assert not isinstance(other, InternalError)


def test_the_logits_stay_as_they_are():
    logits, _ = sample(Only(7))
    assert torch.isfinite(logits).all()
