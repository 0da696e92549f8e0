"""Fast mode's promise: the tokens of deterministic mode wherever the two best are EPSILON apart."""

from __future__ import annotations

import random

import pytest
import torch

from services.engine.loading.text import load_text_model
from services.engine.model.text_model import TextModel
from tests.engine.model.random_configs import draw_config
from tests.engine.text_models import every_logit, make_runner, pages_for, random_weights
from tests.support.batches import batch_of

LOGPROB_BOUND = 1e-4
# Two log-probabilities that each move by at most the bound keep their order if they are further apart.
EPSILON = 2 * LOGPROB_BOUND


def models(seed):
    """The same weights twice: deterministic, fast."""
    config = draw_config(random.Random(seed))
    weights = random_weights(config, seed)
    return TextModel(config, weights, True), TextModel(config, weights, False)


def check(exact, fast, fidelity):
    """Log-probabilities `[T, vocab]` of both modes."""
    error = float((fast - exact).abs().max())
    assert error <= LOGPROB_BOUND
    best = exact.topk(2, dim=-1)
    clear = best.values[:, 0] - best.values[:, 1] > EPSILON
    assert clear.float().mean() > 0.9
    assert torch.equal(fast.argmax(dim=-1)[clear], best.indices[clear, 0])
    count = int(clear.sum())
    fidelity.near(
        "Fast mode", "log-probabilities of every token (absolute), f32", "deterministic mode", error
    )
    fidelity.equal(
        "Fast mode", f"likeliest tokens where the margin exceeds {EPSILON:g}", "deterministic mode", count
    )


@pytest.mark.parametrize("seed", range(20, 28))
def test_whole_prompts_have_the_tokens_and_logprobs_of_deterministic_mode(seed, fidelity):
    exact, fast = models(seed)
    prompt = [random.Random(seed).randrange(96) for _ in range(300)]
    pages = pages_for(300)
    found = [every_logit(make_runner(model, 5), prompt, pages).log_softmax(-1) for model in (exact, fast)]
    check(*found, fidelity)


def test_decoding_in_a_batch_has_the_tokens_and_logprobs_of_deterministic_mode_alone(nano_dir, fidelity):
    exact, fast = (load_text_model(nano_dir, deterministic) for deterministic in (True, False))
    rng = random.Random(5)
    prompts = [[rng.randrange(2048) for _ in range(length)] for length in (1, 40, 64, 130, 700)]
    held = [pages_for(len(prompt) + 20, 13 * index) for index, prompt in enumerate(prompts)]
    runner = make_runner(fast, 13 * len(prompts))
    for turn in range(20):
        items = []
        for prompt, pages in zip(prompts, held, strict=True):
            new = prompt if turn == 0 else prompt[-1:]
            items.append((new, len(prompt) - len(new), pages, True))
        logits = runner.forward(batch_of(items)).log_softmax(-1)
        for prompt, row in zip(prompts, logits, strict=True):
            prompt.append(int(row.argmax()))
        if turn % 10 == 9:
            alone = [whole_logprobs(exact, prompt[:-1]) for prompt in prompts]
            check(torch.stack(alone), logits, fidelity)


def whole_logprobs(model, prompt):
    runner = make_runner(model, len(pages_for(len(prompt))))
    return every_logit(runner, prompt, pages_for(len(prompt)))[-1].log_softmax(-1)
