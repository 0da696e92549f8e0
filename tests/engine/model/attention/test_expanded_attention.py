"""The expanded form of attention against the absorbed one, and both against softmax written down plainly."""

from __future__ import annotations

import pytest
import torch

from services.engine.model.attention.expanded_attention import (
    ExpandedAttention,
    ExpandedLimits,
    worthwhile_tokens,
)
from services.engine.model.attention.page_views import PageViews
from services.engine.model.attention.paged_attention import PagedAttention
from services.engine.model.attention.tiled_attention import TiledAttention
from tests.engine.text_models import TINY, every_logit, make_runner, pages_for, tiny_config, tiny_model
from tests.support.batches import batch_of

CONFIGS = {
    "tiny": TINY,
    "one head": tiny_config(num_attention_heads=1),
    "published heads": tiny_config(
        kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, num_attention_heads=4
    ),
}
ITEMS = [(0, 1), (0, 64), (0, 65), (63, 2), (64, 40), (130, 70), (300, 129)]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def case(config, first, count):
    """Random pages, queries and weights: (query, kv_b, page views)."""
    pages = random(-(-(first + count) // 64), 1, 64, config.kv_width, seed=1)
    rows = config.qk_nope_head_dim + config.v_head_dim
    kv_b = random(config.num_attention_heads * rows, config.kv_lora_rank, seed=2) / config.kv_lora_rank**0.5
    query = random(count, config.num_attention_heads, config.qk_head_dim, seed=3) / config.qk_head_dim**0.5
    views = PageViews(pages, config.kv_lora_rank)
    return query, kv_b, [views.view(0, page) for page in range(len(pages))]


def plain(config, query, kv_b, pages, first):
    """Every key and value of every head, in float64."""
    cached = torch.cat([page.keys for page in pages]).double()
    latent, rope = cached.split([config.kv_lora_rank, config.qk_rope_head_dim], dim=-1)
    outputs = []
    for head, up in enumerate(kv_b.double().chunk(config.num_attention_heads)):
        keys = torch.cat([latent @ up[: config.qk_nope_head_dim].t(), rope], dim=-1)
        scores = query[:, head].double() @ keys.t()
        positions = first + torch.arange(len(query))
        scores.masked_fill_(torch.arange(len(keys)) > positions[:, None], float("-inf"))
        outputs.append(scores.softmax(-1) @ (latent @ up[config.qk_nope_head_dim :].t()))
    return torch.stack(outputs, dim=1)


def absorbed(config, query, kv_b, pages, first):
    """By TiledAttention, W_UK and W_UV multiplied before and after."""
    ups = kv_b.view(config.num_attention_heads, -1, config.kv_lora_rank)
    key_up, value_up = ups[:, : config.qk_nope_head_dim], ups[:, config.qk_nope_head_dim :]
    nope, rope = query.split([config.qk_nope_head_dim, config.qk_rope_head_dim], dim=-1)
    latent_query = torch.cat([torch.einsum("nhd,hdc->nhc", nope, key_up), rope], dim=-1)
    mixed = TiledAttention().attend(latent_query, first, pages)
    return torch.einsum("nhc,hvc->nhv", mixed, value_up)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_both_forms_are_softmax_attention(config, fidelity):
    for first, count in ITEMS:
        query, kv_b, pages = case(config, first, count)
        expected = plain(config, query, kv_b, pages, first)
        for form, found in (
            ("expanded", ExpandedAttention(kv_b, config).attend(query, first, pages)),
            ("absorbed", absorbed(config, query, kv_b, pages, first)),
        ):
            assert found.dtype == torch.float32
            error = float((found - expected).abs().max() / expected.std())
            assert error <= 2e-5, (form, first, count)
            fidelity.near("Attention", f"outputs of the {form} form, f32", "softmax in float64", error)


def test_heads_and_rows_taken_a_few_at_a_time_give_the_same():
    query, kv_b, pages = case(TINY, 130, 70)
    whole = ExpandedAttention(kv_b, TINY).attend(query, 130, pages)
    two_heads = 2 * 200 * (TINY.qk_head_dim + TINY.v_head_dim)
    for limits in (ExpandedLimits(two_heads, 3_000), ExpandedLimits(1, 1)):
        cut = ExpandedAttention(kv_b, TINY, limits).attend(query, 130, pages)
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)


def test_slots_behind_the_chunk_do_not_matter():
    query, kv_b, pages = case(TINY, 10, 40)
    before = ExpandedAttention(kv_b, TINY).attend(query, 10, pages)
    pages[0].keys[50:] = float("nan")
    assert torch.equal(ExpandedAttention(kv_b, TINY).attend(query, 10, pages), before)


def test_only_fast_mode_expands_and_only_long_chunks():
    config = CONFIGS["published heads"]
    worth = worthwhile_tokens(config)
    assert worth == 171  # 512 * 256 / (2 * 512 - 256), rounded up
    items = [
        ([1] * worth, 0, pages_for(worth), False),
        ([1] * (worth - 1), 0, pages_for(worth), False),
        ([1], 70, pages_for(71), False),
        ([1] * 300, 64, pages_for(364), False),
    ]
    attention = PagedAttention(TiledAttention(), batch_decode=True, expand_from=worth)
    plan = attention.plan(batch_of(items))
    assert [(chunk.start, chunk.end, chunk.first_position) for chunk in plan.expanded] == [
        (0, worth, 0),
        (2 * worth, 2 * worth + 300, 64),
    ]
    assert plan.absorbed_rows.tolist() == list(range(worth, 2 * worth))
    assert [(chunk.start, chunk.end) for chunk in plan.chunks] == [(0, worth - 1)]
    assert plan.decode_rows.tolist() == [worth - 1]
    stable = PagedAttention.stable(1, 32, 40, torch.device("cpu"))
    assert not stable.plan(batch_of(items)).expanded


def test_expanding_never_pays_for_a_narrow_latent():
    assert worthwhile_tokens(tiny_config(kv_lora_rank=8, qk_nope_head_dim=12, v_head_dim=10)) is None


def test_a_mixed_batch_gives_what_its_parts_give_alone():
    model = tiny_model(deterministic=False)
    lengths = (1, 200, 7, 90, 150)
    prompts = [[(7 * i + 3 * length) % 97 for i in range(length)] for length in lengths]
    alone = [every_logit(make_runner(model, 4), prompt, pages_for(len(prompt)))[-1] for prompt in prompts]
    items, page = [], 0
    for prompt in prompts:
        pages = pages_for(len(prompt), page)
        page += len(pages)
        items.append((prompt, 0, pages, True))
    together = make_runner(model, page).forward(batch_of(items))
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)
