"""Routing against the golden vectors, in PyTorch and compiled."""

from __future__ import annotations

import json
import random

import pytest
import torch

from services.engine.model.layers.compiled_router import CompiledRouter
from services.engine.model.layers.router import ExpertRouter
from services.engine.model.layers.row_product import PlainProducts
from services.engine.native.library import library
from tests.engine.text_models import tiny_config


@pytest.fixture(params=[ExpertRouter, CompiledRouter])
def make_router(request):
    if request.param is CompiledRouter and library() is None:
        pytest.skip("nothing can be compiled here: see the log")

    def make(bias, top_k, scale, normalise=True):
        config = tiny_config(num_experts_per_tok=top_k, routed_scaling_factor=scale, norm_topk_prob=normalise)
        return request.param(torch.eye(len(bias)), torch.tensor(bias), config, PlainProducts())

    return make


def test_chosen_experts_and_weights_are_the_golden_ones(make_router, shared_dir, fidelity):
    entries = json.loads((shared_dir / "data" / "golden" / "router.json").read_text())
    assert len(entries) >= 7
    for entry in entries:
        values, expected = entry["input"], entry["expected"]
        router = make_router(
            values["e_score_correction_bias"],
            values["top_k"],
            values["routed_scaling_factor"],
            values["norm_topk_prob"],
        )
        experts, weights = router(torch.tensor([values["logits"]]))
        assert experts[0].tolist() == expected["indices"]
        wanted = torch.tensor(expected["weights"], dtype=torch.float64)
        error = float(((weights[0].double() - wanted).abs() / wanted).max())
        assert error <= 2e-6
        fidelity.near("Router", "experts (equal) and weights (relative)", "golden vectors (float64)", error)


def test_the_bias_chooses_but_does_not_weigh(make_router):
    plain = make_router([0.0, 0.0, 0.0], 1, 1.0, normalise=False)
    biased = make_router([0.0, 0.0, 9.0], 1, 1.0, normalise=False)
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    assert plain(logits)[0].tolist() == [[0]]
    experts, weights = biased(logits)
    assert experts.tolist() == [[2]]
    assert weights.tolist() == [[0.5]]


def test_of_equal_scores_the_lower_index_goes_first(make_router):
    draw = random.Random(4)
    for experts, top_k in ((8, 3), (16, 4), (384, 8), (1000, 30)):
        # A few values for many experts: ties everywhere, at the cut too.
        bias = [draw.choice([-0.5, 0.0, 0.25, 0.5]) for _ in range(experts)]
        logits = [draw.choice([-2.0, 0.0, -0.0, 2.0]) for _ in range(experts)]
        chosen, _ = make_router(bias, top_k, 1.0)(torch.tensor([logits] * 3))
        scores = (torch.tensor(logits).sigmoid() + torch.tensor(bias)).tolist()
        expected = sorted(range(experts), key=lambda index: (-scores[index], index))[:top_k]
        assert chosen.tolist() == [expected] * 3


def test_scores_of_both_signs_are_ranked_by_value(make_router):
    bias = torch.tensor([-3.0, -0.6, -0.50001, -0.5, 0.0, 0.5, -1.0]).tolist()
    chosen, _ = make_router(bias, 7, 1.0)(torch.zeros(1, 7))
    assert chosen.tolist() == [[5, 4, 3, 2, 1, 6, 0]]
