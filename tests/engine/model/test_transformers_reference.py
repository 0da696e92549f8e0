"""Our logits equal those of transformers on the same weights."""

from __future__ import annotations

import random

import pytest

from services.engine.loading.text import load_text_model
from services.engine.model.architectures import load_config
from services.engine.model.config.yarn import YarnScaling
from services.engine.model.text_model import TextModel
from tests.engine.model.hf_reference import reference_logits, reference_model, text_reference
from tests.engine.text_models import every_logit, make_runner, pages_for, random_weights, tiny_config
from tests.support.tensors import read_tensors

CONFIGS = {
    "yarn": tiny_config(),
    "no stretch": tiny_config(rope_scaling=None),
    "the published stretch": tiny_config(rope_scaling=YarnScaling(64.0, 4096, 32.0, 1.0, 1.0, 1.0)),
    "unequal mscales": tiny_config(rope_scaling=YarnScaling(8.0, 64, 32.0, 1.0, 1.0, 0.7)),
    "scores that are not stretched": tiny_config(rope_scaling=YarnScaling(8.0, 64, 32.0, 1.0, 1.0, 0.0)),
    "two dense layers, two shared experts": tiny_config(first_k_dense_replace=2, n_shared_experts=2),
    "unnormalised weights": tiny_config(norm_topk_prob=False),
}


def assert_close(ours, expected):
    """The error, as a share of the standard deviation."""
    assert expected.std() > 0.1
    error = float((ours - expected).abs().max() / expected.std())
    assert error <= 1e-4
    return error


def tiny_pair(text, deterministic=True, **eps):
    weights = random_weights(text)
    return TextModel(text, weights, deterministic, **eps), text_reference(text, weights, **eps)


def compare(ours, theirs, prompt):
    pages = pages_for(len(prompt))
    logits = every_logit(make_runner(ours, len(pages)), prompt, pages)
    return assert_close(logits, reference_logits(theirs, prompt))


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS.keys())
def test_tiny_models_agree_at_every_length(text, deterministic, fidelity):
    ours, theirs = tiny_pair(text, deterministic)
    rng = random.Random(1)
    for length in (1, 2, 63, 64, 65, 300):
        error = compare(ours, theirs, [rng.randrange(96) for _ in range(length)])
        fidelity.near("Text model", "logits of chosen configurations, f32", "transformers", error)


def test_the_inner_norms_take_another_eps_when_told():
    ours, theirs = tiny_pair(tiny_config(), inner_norm_eps=0.5)
    prompt = list(range(50))
    compare(ours, theirs, prompt)
    plain, _ = tiny_pair(tiny_config())
    pages = pages_for(50)
    changed = every_logit(make_runner(ours, 1), prompt, pages)
    assert (changed - every_logit(make_runner(plain, 1), prompt, pages)).abs().max() > 0.1


@pytest.fixture(scope="module")
def nano_pair(nano_dir):
    tensors = read_tensors(nano_dir, ("language_model.", "vision_tower.", "mm_projector."))
    return load_text_model(nano_dir, True), reference_model(load_config(nano_dir), tensors)


@pytest.mark.parametrize("length", [1, 17, 600, 4200])
def test_the_embedded_checkpoint_agrees_before_and_beyond_4096_positions(nano_pair, length, fidelity):
    rng = random.Random(length)
    error = compare(*nano_pair, [rng.randrange(2048) for _ in range(length)])
    what = "logits of the embedded checkpoint, up to 4,200 positions, f32"
    fidelity.near("Text model", what, "transformers", error)
