"""Routing against the golden vectors."""

from __future__ import annotations

import json

import torch

from services.engine.model.router import Router
from services.engine.model.row_product import PlainProducts
from tests.engine.text_models import tiny_config


def make_router(bias, top_k, scale, normalise=True):
    config = tiny_config(num_experts_per_tok=top_k, routed_scaling_factor=scale, norm_topk_prob=normalise)
    return Router(torch.eye(len(bias)), torch.tensor(bias), config, PlainProducts())


def test_chosen_experts_and_weights_are_the_golden_ones(shared_dir):
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
        torch.testing.assert_close(weights[0], torch.tensor(expected["weights"]), rtol=2e-6, atol=1e-7)


def test_the_bias_chooses_but_does_not_weigh():
    plain = make_router([0.0, 0.0, 0.0], 1, 1.0, normalise=False)
    biased = make_router([0.0, 0.0, 9.0], 1, 1.0, normalise=False)
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    assert plain(logits)[0].tolist() == [[0]]
    experts, weights = biased(logits)
    assert experts.tolist() == [[2]]
    assert weights.tolist() == [[0.5]]
