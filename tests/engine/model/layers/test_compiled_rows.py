"""The compiled loops over rows against the same written down in PyTorch."""

from __future__ import annotations

import pytest
import torch

from services.engine.model.attention.rope import rotate
from services.engine.model.layers.compiled_rows import CompiledRows
from services.engine.model.layers.norm import RMSNorm

CPU = torch.device("cpu")
ROPE = 8


@pytest.fixture(scope="module")
def rows():
    found = CompiledRows.available(CPU, torch.float32)
    if found is None:
        pytest.skip("nothing can be compiled here: see the log")
    return found


def angles(tokens):
    made = torch.rand(tokens, 1, ROPE // 2) * 6
    return made.cos(), made.sin()


@pytest.mark.parametrize("width", [1, 7, 8, 20, 192])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_norm_is_that_of_pytorch_also_of_rows_that_lie_apart(rows, count, width):
    x = torch.randn(count, width + 9)[:, 3 : 3 + width]
    weight = torch.randn(width)
    found = RMSNorm(weight, 1e-5, rows)(x)
    torch.testing.assert_close(found, RMSNorm(weight, 1e-5)(x))
    assert found.is_contiguous()


def test_queries_are_scaled_and_their_last_values_turned(rows):
    query, (cos, sin) = torch.randn(5, 3, 12 + ROPE), angles(5)
    expected = torch.cat([query[..., :12], rotate(query[..., 12:], cos, sin)], dim=-1) * 0.3
    rows.turn_queries(query, cos, sin, 12, 0.3)
    torch.testing.assert_close(query, expected)


def test_cache_entries_go_into_their_slots_and_nowhere_else(rows):
    latent = 20
    pages, weight = torch.randn(4, 3, 64, latent + ROPE), torch.randn(latent)
    wide, (cos, sin) = torch.randn(3, 7 + latent + ROPE), angles(3)
    down, slots = wide[:, 7:], torch.tensor([5, 64 * 3 + 63, 64 * 2])
    expected = pages.clone()
    rotated = rotate(down[:, latent:].unsqueeze(1), cos, sin).squeeze(1)
    entries = torch.cat([RMSNorm(weight, 1e-5)(down[:, :latent]), rotated], dim=-1)
    expected[[0, 3, 2], 1, [5, 63, 0]] = entries
    rows.store_latents(down, weight, 1e-5, cos, sin, slots, pages[:, 1])
    torch.testing.assert_close(pages, expected)
    untouched = torch.ones_like(pages, dtype=torch.bool)
    untouched[[0, 3, 2], 1, [5, 63, 0]] = False
    assert torch.equal(pages[untouched], expected[untouched])


def test_other_dtypes_and_devices_are_left_to_pytorch():
    assert CompiledRows.available(CPU, torch.bfloat16) is None
    assert CompiledRows.available(torch.device("meta"), torch.float32) is None
