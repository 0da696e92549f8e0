"""The text model against transformers on configurations drawn at random, however a prompt is computed."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

from services.engine.model.config.yarn import YarnScaling
from services.engine.model.text_model import TextModel
from services.engine.runner import ModelRunner
from tests.engine.model.hf_reference import reference_logits, text_reference
from tests.engine.model.random_configs import draw_config
from tests.engine.text_models import every_logit, make_runner, pages_for, random_weights, tiny_config
from tests.support.batches import batch_of

BOUND = 1e-4
"""In standard deviations of the reference's logits."""


def tokens(rng, count):
    return [rng.randrange(96) for _ in range(count)]


def error_of(ours, expected):
    assert expected.std() > 0.05
    return float((ours - expected).abs().max() / expected.std())


def chunked_logits(rng, model, prompt, most):
    """Logits of every token, computed in chunks, and again with half of them cached: each `[T, vocab]`.

    Pages are scattered, and another prompt's tokens are in every batch.
    """
    count = len(pages_for(len(prompt)))
    runner = make_runner(model, 2 * count + 1)
    free = rng.sample(range(2 * count + 1), 2 * count + 1)
    pages, company = free[:count], free[count : count + 1]
    shared = len(prompt) // 2 // 64
    fork = pages[:shared] + free[count + 1 : 2 * count + 1 - shared]

    def run(start, end, pages):
        other = (tokens(rng, rng.randint(1, 64)), 0, company, False)
        batch = batch_of([(prompt[start:end], start, pages, True), other])
        return runner.forward(dataclasses.replace(batch, logits_rows=torch.arange(end - start)))

    chunks, start = [], 0
    while start < len(prompt):
        end = min(len(prompt), start + rng.randint(1, most))
        chunks.append(run(start, end, pages))
        start = end
    computed = torch.cat(chunks)
    after_hit = run(shared * 64, len(prompt), fork)
    return computed, torch.cat([computed[: shared * 64], after_hit])


@pytest.mark.parametrize("seed", range(12))
def test_any_configuration_has_the_logits_of_transformers(seed, fidelity):
    rng = random.Random(seed)
    text = draw_config(rng)
    weights = random_weights(text, seed)
    reference = text_reference(text, weights)
    prompts = [tokens(rng, length) for length in (1, 2, rng.randint(3, 130), rng.randint(250, 400))]
    expected = [reference_logits(reference, prompt) for prompt in prompts]
    for deterministic in (True, False):
        model = TextModel(text, weights, deterministic)
        for prompt, logits in zip(prompts, expected, strict=True):
            for ours in chunked_logits(rng, model, prompt, 150):
                error = error_of(ours, logits)
                assert error <= BOUND, (text, len(prompt), deterministic)
                note(fidelity, "logits of random configurations, chunked and cached, f32", error)


def note(fidelity, what, error):
    fidelity.near("Text model", what, "transformers", error)


def test_positions_beyond_4096_in_chunks_and_from_the_cache_have_the_logits_of_transformers(fidelity):
    published = YarnScaling(64.0, 4096, 32.0, 1.0, 1.0, 1.0)
    text = tiny_config(
        rope_scaling=published,
        max_position_embeddings=262_144,
        num_hidden_layers=2,
        num_attention_heads=2,
        qk_rope_head_dim=64,
    )
    weights = random_weights(text)
    rng = random.Random(3)
    prompt = tokens(rng, 4_700)
    expected = reference_logits(text_reference(text, weights), prompt)
    for deterministic in (True, False):
        for ours in chunked_logits(rng, TextModel(text, weights, deterministic), prompt, 2_000):
            error = error_of(ours, expected)
            assert error <= BOUND
            note(fidelity, "logits of 4,700 positions, published YaRN, chunked and cached, f32", error)


def test_experts_of_equal_score_have_the_logits_of_transformers(fidelity):
    """Pairs of experts with the same weights and gate: at the cut either may be taken, to the same end."""
    text = tiny_config(n_routed_experts=8, num_experts_per_tok=3)
    weights = random_weights(text)
    for name in [name for name in weights if ".mlp.gate." in name]:
        weights[name][1::2] = weights[name][::2]
    for name in [name for name in weights if ".experts." in name]:
        expert = int(name.split(".experts.")[1].split(".")[0])
        twin = name.replace(f".experts.{expert}.", f".experts.{expert - expert % 2}.")
        weights[name] = weights[twin]
    prompt = tokens(random.Random(9), 300)
    expected = reference_logits(text_reference(text, weights), prompt)
    for deterministic in (True, False):
        model = TextModel(text, weights, deterministic)
        error = error_of(every_logit(make_runner(model, 5), prompt, pages_for(300)), expected)
        assert error <= BOUND
        note(fidelity, "logits where routing ties at the cut, f32", error)


@pytest.mark.parametrize("seed", range(3))
def test_bf16_is_as_near_to_float32_as_transformers_in_bf16(seed, fidelity):
    rng = random.Random(100 + seed)
    text = dataclasses.replace(draw_config(rng), n_routed_experts=4, num_experts_per_tok=4)
    weights = random_weights(text, seed)
    narrow = {name: w if name.endswith("bias") else w.bfloat16() for name, w in weights.items()}
    exact = text_reference(text, {name: w.float() for name, w in narrow.items()})
    prompt = tokens(rng, 120)
    expected = reference_logits(exact, prompt)
    theirs = mean_error(reference_logits(exact.bfloat16(), prompt).float(), expected)
    pages = make_runner(TextModel(text, weights, True), 4).kv_pages.bfloat16()
    for deterministic in (True, False):
        runner = ModelRunner(TextModel(text, narrow, deterministic), pages.clone(), 1)
        ours = mean_error(every_logit(runner, prompt, pages_for(120)), expected)
        print(f"bf16, root mean square of errors: ours {ours:.2e}, transformers {theirs:.2e}")
        assert ours <= 1.2 * theirs
        what = "bf16: root mean square error of logits, as a multiple of that of transformers in bf16"
        fidelity.near("Text model", what, "transformers in f32", ours / theirs)


def mean_error(found, expected):
    return float((found - expected).square().mean().sqrt() / expected.std())
