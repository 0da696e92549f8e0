"""Rotary embedding of queries."""

from __future__ import annotations

import pytest
import torch

from kernels import rope
from kernels.reference import rope as reference
from services.engine.model.attention import rope as engine_rope
from tests.kernels.angles import make_angles


def rotated(x, positions, cos, sin):
    """`rope.rotate` into a tensor of its own."""
    out = torch.zeros_like(x)
    rope.rotate(x, positions, cos, sin, out)
    return out


def rotated_in_place(query, positions, cos, sin):
    """`query [T, heads, nope + 64]` with the last 64 of each head turned where they stand."""
    part = query[..., -64:]
    rope.rotate(part, positions, cos, sin, part)
    return query


@pytest.mark.parametrize("heads", [1, 8, 20])
def test_pairs_are_turned_by_the_angle_of_their_position(interpreter, heads):
    cos, sin = make_angles(50, 64)
    x, positions = torch.randn(3, heads, 64), torch.tensor([0, 49, 7])
    out = interpreter(rotated, x, positions, cos, sin)
    torch.testing.assert_close(out, reference.rotate(x, positions, cos, sin), rtol=1e-6, atol=1e-6)
    assert torch.equal(out[0], x[0])


def test_the_reference_is_what_the_engine_computes():
    cos, sin = make_angles(50, 64)
    x, positions = torch.randn(3, 4, 64), torch.tensor([3, 49, 7])
    expected = engine_rope.rotate(x, cos[positions].unsqueeze(1), sin[positions].unsqueeze(1))
    assert torch.equal(reference.rotate(x, positions, cos, sin), expected)


def test_the_rope_part_of_a_query_is_turned_in_place_and_the_rest_stays(interpreter):
    cos, sin = make_angles(50, 64)
    query, positions = torch.randn(2, 3, 192), torch.tensor([5, 31])
    out = interpreter(rotated_in_place, query, positions, cos, sin)
    expected = reference.rotate(query[..., 128:], positions, cos, sin)
    assert torch.equal(out[..., :128], query[..., :128])
    torch.testing.assert_close(out[..., 128:], expected, rtol=1e-6, atol=1e-6)


def test_bfloat16_is_computed_in_float32(interpreter):
    cos, sin = make_angles(50, 64)
    x, positions = torch.randn(2, 2, 64).bfloat16(), torch.tensor([5, 31])
    out = interpreter(rotated, x, positions, cos, sin)
    torch.testing.assert_close(out, reference.rotate(x, positions, cos, sin), rtol=2**-7, atol=1e-6)


def test_tables_of_another_width_are_an_error():
    cos, sin = make_angles(8, 32)
    x = torch.ones(1, 1, 64)
    with pytest.raises(ValueError, match=r"tables \(8, 16\), \(8, 16\) do not fit vectors of 64"):
        rope.rotate(x, torch.tensor([0]), cos, sin, x)
