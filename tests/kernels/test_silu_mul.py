"""SwiGLU's elementwise half."""

from __future__ import annotations

import pytest
import torch

from kernels import silu_mul
from kernels.reference import silu_mul as reference


@pytest.mark.parametrize("width", [64, 1100])
def test_it_matches_the_reference(interpreter, width):
    x = torch.randn(3, 2 * width, generator=torch.Generator().manual_seed(0)) * 4
    out = interpreter(silu_mul.silu_mul, x)
    torch.testing.assert_close(out, reference.silu_mul(x), rtol=1e-6, atol=1e-6)


def test_rows_may_be_part_of_wider_ones(interpreter):
    x = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))[:, 20:84]
    out = interpreter(silu_mul.silu_mul, x)
    torch.testing.assert_close(out, reference.silu_mul(x), rtol=1e-6, atol=1e-6)


def test_large_values_do_not_overflow(interpreter):
    x = torch.tensor([[-200.0, 200.0, 3.0, 3.0]])
    assert interpreter(silu_mul.silu_mul, x).tolist() == [[0.0, 600.0]]


def test_bfloat16_is_computed_in_float32(interpreter):
    x = torch.randn(2, 128, generator=torch.Generator().manual_seed(0)).bfloat16()
    out = interpreter(silu_mul.silu_mul, x)
    torch.testing.assert_close(out, reference.silu_mul(x), rtol=2**-7, atol=1e-6)


def test_rows_without_halves_are_an_error():
    with pytest.raises(ValueError, match="rows of 3 values have no halves"):
        silu_mul.silu_mul(torch.ones(1, 3))
