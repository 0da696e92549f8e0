"""Deterministic mode: a token's numbers do not depend on how it was computed."""

from __future__ import annotations

import random

import pytest
import torch

from services.engine.model.layers.row_product import MultipleOfRows, PaddedColumns, StableProducts, TiledRows
from services.engine.model.text_model import TextModel
from tests.engine.text_models import (
    TINY,
    batch_for,
    cache_of,
    every_logit,
    make_runner,
    pages_for,
    random_weights,
    tiny_config,
    tiny_model,
)

NANO_LIKE = tiny_config(
    hidden_size=128,
    intermediate_size=256,
    moe_intermediate_size=64,
    num_attention_heads=4,
    q_lora_rank=64,
    kv_lora_rank=512,
    qk_nope_head_dim=32,
    qk_rope_head_dim=64,
    v_head_dim=32,
    n_routed_experts=8,
    num_experts_per_tok=2,
    vocab_size=300,
)
ONE_HEAD = tiny_config(num_attention_heads=1, hidden_size=33, num_hidden_layers=2)
MANY_HEADS = tiny_config(num_attention_heads=20, num_hidden_layers=2, num_experts_per_tok=1)
CONFIGS = {"odd": TINY, "nano": NANO_LIKE, "one head": ONE_HEAD, "many heads": MANY_HEADS}


DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request, device):
    return tiny_model(request.param, device=device)


def tokens(rng, count):
    return [rng.randrange(97) for _ in range(count)]


def reference(model, prompt):
    """Logits of every token and cache entries, in one pass over consecutive pages."""
    pages = pages_for(len(prompt))
    runner = make_runner(model, len(pages))
    logits = every_logit(runner, prompt, pages)
    return logits, cache_of(runner, pages, len(prompt))


def chunked(rng, length):
    """Random chunk ends, many of them one token long."""
    start = 0
    while start < length:
        end = min(length, start + rng.choice([1, 1, 2, 3, 5, 17, 64, 100]))
        yield start, end
        start = end


@pytest.mark.parametrize("seed", range(3))
def test_random_chunks_over_scattered_pages_give_the_bits_of_one_pass(model, seed, fidelity):
    rng = random.Random(seed)
    prompt = tokens(rng, rng.choice([1, 2, 65, 130, 300]))
    expected_logits, expected_cache = reference(model, prompt)
    runner = make_runner(model, 40)
    pages = rng.sample(range(40), len(pages_for(len(prompt))))
    for start, end in chunked(rng, len(prompt)):
        logits = runner.forward(batch_for(runner, (prompt[start:end], start, pages, True)))
        assert torch.equal(logits[0], expected_logits[end - 1])
    assert torch.equal(cache_of(runner, pages, len(prompt)), expected_cache)
    note(fidelity, model, "logits and cache in random chunks over scattered pages")


def note(fidelity, model, what, cases=1):
    reference = f"the same prompt alone in one pass ({model.device.type})"
    fidelity.equal("Deterministic mode", what, reference, cases)


def test_token_by_token_gives_the_bits_of_one_pass(model, fidelity):
    prompt = tokens(random.Random(5), 140)
    expected_logits, expected_cache = reference(model, prompt)
    pages = [4, 0, 2]
    runner = make_runner(model, 5)
    for position, token in enumerate(prompt):
        logits = runner.forward(batch_for(runner, ([token], position, pages, True)))
        assert torch.equal(logits[0], expected_logits[position])
    assert torch.equal(cache_of(runner, pages, len(prompt)), expected_cache)
    note(fidelity, model, "logits and cache token by token")


@pytest.mark.parametrize("seed", range(3))
def test_random_company_in_the_batch_changes_no_bit(model, seed, fidelity):
    rng = random.Random(seed)
    prompts = [tokens(rng, rng.choice([1, 3, 40, 64, 150, 200])) for _ in range(7)]
    references = [reference(model, prompt) for prompt in prompts]
    runner = make_runner(model, 40)
    free = rng.sample(range(40), 40)
    pages = [[free.pop() for _ in pages_for(len(prompt))] for prompt in prompts]
    chunks = [list(chunked(rng, len(prompt))) for prompt in prompts]
    while any(chunks):
        running = [i for i in range(7) if chunks[i] and rng.random() < 0.8]
        rng.shuffle(running)
        spans = [chunks[i].pop(0) for i in running]
        items = [(prompts[i][a:b], a, pages[i], True) for i, (a, b) in zip(running, spans, strict=True)]
        if not items:
            continue
        logits = runner.forward(batch_for(runner, *items))
        for row, i, (_, end) in zip(logits, running, spans, strict=True):
            assert torch.equal(row, references[i][0][end - 1])
    for prompt, held, (_, cache) in zip(prompts, pages, references, strict=True):
        assert torch.equal(cache_of(runner, held, len(prompt)), cache)
    note(fidelity, model, "logits and cache in batches with random others", len(prompts))


def test_a_cached_prefix_gives_the_bits_of_a_computed_one(model, fidelity):
    prompt = tokens(random.Random(8), 200)
    expected_logits, _ = reference(model, prompt)
    runner = make_runner(model, 20)
    runner.forward(batch_for(runner, (prompt[:128], 0, [9, 3], False)))
    fork = [9, 3, 11, 12]
    other = [9, 3, 14, 15]
    items = [(prompt[128:], 128, fork, True), (prompt[128:130], 128, other, True)]
    logits = runner.forward(batch_for(runner, *items))
    assert torch.equal(logits[0], expected_logits[199])
    assert torch.equal(logits[1], expected_logits[129])
    note(fidelity, model, "logits behind a cached prefix", 2)


@pytest.mark.parametrize("slow", [MultipleOfRows(16), TiledRows(16)])
def test_the_slower_products_keep_the_promise_too(slow):
    products = StableProducts([PaddedColumns(16, slow)])
    model = TextModel(TINY, random_weights(TINY), deterministic=True, products=products)
    prompt = tokens(random.Random(6), 90)
    expected_logits, expected_cache = reference(model, prompt)
    runner = make_runner(model, 2)
    for start, end in chunked(random.Random(7), len(prompt)):
        logits = runner.forward(batch_for(runner, (prompt[start:end], start, [1, 0], True)))
        assert torch.equal(logits[0], expected_logits[end - 1])
    assert torch.equal(cache_of(runner, [1, 0], len(prompt)), expected_cache)
