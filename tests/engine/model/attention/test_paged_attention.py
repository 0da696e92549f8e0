"""Paged attention against softmax written down plainly."""

from __future__ import annotations

import pytest
import torch

from services.engine.model.attention.page_views import PageViews
from services.engine.model.attention.paged_attention import PagedAttention
from services.engine.model.attention.tiled_attention import TiledAttention
from tests.support.batches import batch_of

LATENT, KEY = 24, 32


def plain(query, keys, first_position):
    """[n, heads, key] over [length, key], causal."""
    scores = torch.einsum("nhk,lk->hnl", query.double(), keys.double())
    positions = first_position + torch.arange(query.shape[0])
    hidden = torch.arange(keys.shape[0])[None, :] > positions[:, None]
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.einsum("hnl,lv->nhv", weights, keys[:, :LATENT].double()).float()


def case(items, heads, seed=0):
    """Random pages and queries for (first position, new tokens) of several sequences."""
    generator = torch.Generator().manual_seed(seed)
    counts = [-(-(first + new) // 64) for first, new in items]
    order = torch.randperm(sum(counts), generator=generator).tolist()
    held = [[order.pop() for _ in range(count)] for count in counts]
    pages = torch.randn(sum(counts), 2, 64, KEY, generator=generator)
    batch = batch_of([([0] * new, first, ids, False) for (first, new), ids in zip(items, held, strict=True)])
    query = torch.randn(len(batch.token_ids), heads, KEY, generator=generator) * 0.5
    expected, start = [], 0
    for (first, new), ids in zip(items, held, strict=True):
        keys = pages[ids, 1].flatten(0, 1)[: first + new]
        expected.append(plain(query[start : start + new], keys, first))
        start += new
    return batch, query, pages, torch.cat(expected)


ITEMS = [(0, 1), (63, 1), (64, 1), (0, 70), (130, 65), (5, 2), (300, 1)]


@pytest.mark.parametrize("heads", [1, 3, 20])
@pytest.mark.parametrize("block_rows", [16, 64, 1024])
@pytest.mark.parametrize("batch_decode", [True, False])
def test_a_mixed_batch_is_softmax_attention(heads, block_rows, batch_decode):
    batch, query, pages, expected = case(ITEMS, heads)
    attention = PagedAttention(TiledAttention(block_rows), batch_decode)
    found = attention.attend(query, PageViews(pages, LATENT), 1, attention.plan(batch))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("items", [[(700, 1), (0, 1), (63, 1)], [(100, 50)], [(0, 1)]])
def test_pure_decode_and_a_single_chunk_are_softmax_attention(items):
    batch, query, pages, expected = case(items, heads=4)
    attention = PagedAttention.stable(4, LATENT, KEY, torch.device("cpu"))
    found = attention.attend(query, PageViews(pages, LATENT), 1, attention.plan(batch))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_tiles_and_large_blocks_give_the_same_bits():
    batch, query, pages, _ = case(ITEMS, heads=3)
    views = PageViews(pages, LATENT)
    blocks = TiledAttention.stable(LATENT, KEY, torch.device("cpu"))
    stable = PagedAttention(blocks, batch_decode=False)
    tiled = PagedAttention(TiledAttention(16), batch_decode=False)
    assert torch.equal(
        stable.attend(query, views, 1, stable.plan(batch)), tiled.attend(query, views, 1, tiled.plan(batch))
    )


def test_slots_behind_a_token_do_not_matter():
    batch, query, pages, _ = case(ITEMS, heads=3)
    attention = PagedAttention(TiledAttention(), batch_decode=True)
    before = attention.attend(query, PageViews(pages, LATENT), 1, attention.plan(batch))
    for sequence in batch.sequences:
        used = sequence.context_len % 64
        if used:
            pages[sequence.pages[-1], :, used:] = 1e4
    after = attention.attend(query, PageViews(pages, LATENT), 1, attention.plan(batch))
    assert torch.equal(before, after)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_decode", [True, False])
@pytest.mark.parametrize("block_rows", [16, 1024])
def test_nan_behind_a_token_does_not_reach_it(dtype, batch_decode, block_rows):
    batch, query, pages, _ = case(ITEMS, heads=3)
    pages = pages.to(dtype)
    attention = PagedAttention(TiledAttention(block_rows), batch_decode)
    before = attention.attend(query, PageViews(pages, LATENT), 1, attention.plan(batch))
    for sequence in batch.sequences:
        pages[sequence.pages[-1], :, sequence.context_len % 64 or 64 :] = float("nan")
    held = pages.clone()
    after = attention.attend(query, PageViews(pages, LATENT), 1, attention.plan(batch))
    assert torch.equal(before, after)
    assert torch.equal(pages.isnan(), held.isnan())


def test_narrow_pages_are_widened():
    batch, query, pages, _ = case(ITEMS, heads=3)
    narrow = pages.bfloat16()
    attention = PagedAttention(TiledAttention(), batch_decode=True)
    plan = attention.plan(batch)
    found = attention.attend(query, PageViews(narrow, LATENT), 1, plan)
    assert torch.equal(found, attention.attend(query, PageViews(narrow.float(), LATENT), 1, plan))
