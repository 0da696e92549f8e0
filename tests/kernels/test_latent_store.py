"""The store of new tokens into pages."""

from __future__ import annotations

import pytest
import torch

from kernels import latent_store
from kernels.reference import latent_store as reference
from tests.kernels.angles import make_angles

EPS = 1e-5
LATENT, ROPE = 512, 64
WIDTH = LATENT + ROPE


def make_rows(tokens, dtype=torch.float32):
    """Rows inside wider ones, as the fused projection gives them, and a norm's weight."""
    return torch.randn(tokens, 32 + WIDTH).to(dtype)[:, 32:], torch.randn(LATENT).to(dtype)


def stored(down, weight, positions, slots, cos, sin, pages):
    latent_store.store_latents(down, weight, EPS, positions, slots, cos, sin, pages)
    return pages


def stored_far(down, weight, positions, page, layers, layer, cos, sin):
    """What lies at the first token of `page`, and before it, in a pool of which hardly a page is touched."""
    pool = torch.empty(page + 1, layers, 64, WIDTH, dtype=torch.bfloat16)
    pool[page, layer, :2] = 0
    slots = torch.tensor([page * 64])
    latent_store.store_latents(down, weight, EPS, positions, slots, cos, sin, pool[:, layer])
    return pool[page, layer, :2].clone(), pool.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_land_in_their_slots_and_nowhere_else(interpreter, dtype):
    cos, sin = make_angles(300, ROPE)
    down, weight = make_rows(4, dtype)
    positions, slots = torch.tensor([0, 299, 17, 18]), torch.tensor([64 * 2 + 63, 5, 64, 0])
    pool = torch.full((3, 2, 64, WIDTH), 7.0, dtype=dtype)
    out = interpreter(stored, down, weight, positions, slots, cos, sin, pool[:, 1])
    reference.store_latents(down, weight, EPS, positions, slots, cos, sin, pool[:, 1])
    tolerance = 2e-6 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(out, pool[:, 1], rtol=tolerance, atol=tolerance)
    assert (out.float() == 7.0).all(dim=-1).sum() == 3 * 64 - 4


def test_a_negative_slot_is_skipped(interpreter):
    cos, sin = make_angles(8, ROPE)
    down, weight = make_rows(2)
    pages = torch.full((1, 64, WIDTH), 7.0)
    out = interpreter(stored, down, weight, torch.tensor([1, 2]), torch.tensor([-1, 3]), cos, sin, pages)
    assert (out == 7.0).all(dim=-1).sum() == 63


def test_offsets_beyond_page_1000_of_61_layers_are_64_bit(interpreter):
    cos, sin = make_angles(8, ROPE)
    down, weight = make_rows(1, torch.bfloat16)
    positions = torch.tensor([3])
    out, elements = interpreter(stored_far, down, weight, positions, 1001, 61, 60, cos, sin)
    assert elements > 2**31
    expected = torch.zeros(1, 64, WIDTH, dtype=torch.bfloat16)
    reference.store_latents(down, weight, EPS, positions, torch.tensor([0]), cos, sin, expected)
    torch.testing.assert_close(out, expected[0, :2], rtol=2**-6, atol=2**-6)


def test_pages_of_another_width_are_an_error():
    cos, sin = make_angles(8, ROPE)
    down, weight = make_rows(1)
    slots = torch.tensor([0])
    with pytest.raises(ValueError, match=r"pages \(1, 64, 512\) do not fit rows of 576"):
        latent_store.store_latents(down, weight, EPS, slots, slots, cos, sin, torch.ones(1, 64, 512))
