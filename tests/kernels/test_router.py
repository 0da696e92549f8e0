"""The choice of experts."""

from __future__ import annotations

import pytest
import torch

from kernels import router
from kernels.reference import router as reference
from services.engine.model.layers.router import ExpertRouter
from services.engine.model.layers.row_product import PlainProducts
from tests.engine.text_models import tiny_config


def make_logits(tokens):
    """For 384 experts, and a bias; no two scores are so near that rounding could swap them."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(tokens, 384, generator=generator), torch.randn(384, generator=generator) * 0.1


@pytest.mark.parametrize("normalise", [True, False])
def test_experts_and_weights_match_the_reference_at_the_real_size(interpreter, normalise):
    logits, bias = make_logits(4)
    experts, weights = interpreter(router.select_experts, logits, bias, 8, 2.827, normalise)
    wanted, wanted_weights = reference.select_experts(logits.double(), bias.double(), 8, 2.827, normalise)
    assert torch.equal(experts.long(), wanted)
    torch.testing.assert_close(weights.double(), wanted_weights, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("normalise", [True, False])
def test_of_equal_scores_the_lower_index_goes_first_as_in_the_engine(interpreter, normalise):
    generator = torch.Generator().manual_seed(4)
    # A few values for many experts: ties everywhere, at the cut too.
    logits = torch.tensor([-2.0, 0.0, -0.0, 2.0])[torch.randint(4, (3, 100), generator=generator)]
    bias = torch.tensor([-0.5, 0.0, 0.25])[torch.randint(3, (100,), generator=generator)]
    config = tiny_config(num_experts_per_tok=6, routed_scaling_factor=2.0, norm_topk_prob=normalise)
    wanted, wanted_weights = ExpertRouter(torch.eye(100), bias, config, PlainProducts()).select(logits)
    experts, weights = interpreter(router.select_experts, logits, bias, 6, 2.0, normalise)
    assert torch.equal(experts.long(), wanted)
    torch.testing.assert_close(weights, wanted_weights, rtol=1e-6, atol=1e-7)
    assert torch.equal(experts.long(), reference.select_experts(logits, bias, 6, 2.0)[0])


def test_nan_never_leads_outside_or_twice_to_an_expert(interpreter):
    logits = torch.full((2, 20), float("nan"))
    logits[1, 3] = 1.0
    experts, _ = interpreter(router.select_experts, logits, torch.zeros(20), 8, 1.0)
    assert experts[0].tolist() == list(range(8))
    assert experts[1].tolist() == [3, 0, 1, 2, 4, 5, 6, 7]


def test_a_tokens_bits_do_not_depend_on_the_others(interpreter):
    logits, bias = make_logits(3)
    experts, weights = interpreter(router.select_experts, logits, bias, 8, 2.827)
    alone, alone_weights = interpreter(router.select_experts, logits[1:2], bias, 8, 2.827)
    assert torch.equal(experts[1:2], alone)
    assert torch.equal(weights[1:2], alone_weights)


def test_more_choices_than_experts_are_an_error():
    with pytest.raises(ValueError, match="top 8 of 4 experts"):
        router.select_experts(torch.ones(1, 4), torch.ones(4), 8, 1.0)
