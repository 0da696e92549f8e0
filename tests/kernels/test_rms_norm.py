"""RMSNorm and its fused form."""

from __future__ import annotations

import pytest
import torch

from kernels import rms_norm
from kernels.reference import rms_norm as reference

EPS = 1e-5


def make_rows(rows, width, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator).to(dtype)


def add_in_place(x, residual, weight):
    """The norm, and what became of the residual."""
    return rms_norm.add_rms_norm(x, residual, weight, EPS), residual


@pytest.mark.parametrize("width", [512, 1536, 100])
def test_rows_are_normalised_and_weighted(interpreter, width):
    x, weight = make_rows(3, width), make_rows(1, width, seed=1)[0]
    out = interpreter(rms_norm.rms_norm, x, weight, EPS)
    torch.testing.assert_close(out, reference.rms_norm(x, weight, EPS), rtol=2e-6, atol=2e-6)


def test_bfloat16_rows_differ_by_no_more_than_the_interpreters_truncation(interpreter):
    x, weight = make_rows(2, 7168, torch.bfloat16), make_rows(1, 7168, torch.bfloat16, seed=1)[0]
    out = interpreter(rms_norm.rms_norm, x, weight, EPS)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, reference.rms_norm(x, weight, EPS), rtol=2**-6, atol=1e-6)


def test_a_row_may_be_part_of_a_wider_one(interpreter):
    wide, weight = make_rows(3, 200), make_rows(1, 64, seed=1)[0]
    # The pickled copy keeps the strides.
    out = interpreter(rms_norm.rms_norm, wide[:, 100:164], weight, EPS)
    expected = reference.rms_norm(wide[:, 100:164], weight, EPS)
    torch.testing.assert_close(out, expected, rtol=2e-6, atol=2e-6)


def test_the_fused_form_leaves_the_sum_in_the_residual(interpreter):
    x, residual, weight = make_rows(3, 512), make_rows(3, 512, seed=1), make_rows(1, 512, seed=2)[0]
    out, total = interpreter(add_in_place, x, residual, weight)
    expected, expected_total = reference.add_rms_norm(x, residual, weight, EPS)
    assert torch.equal(total, expected_total)
    torch.testing.assert_close(out, expected, rtol=2e-6, atol=2e-6)


def test_the_fused_form_normalises_the_sum_as_it_is_kept(interpreter):
    x, residual = make_rows(2, 512, torch.bfloat16), make_rows(2, 512, torch.bfloat16, seed=1)
    weight = make_rows(1, 512, torch.bfloat16, seed=2)[0]
    out, total = interpreter(add_in_place, x, residual, weight)
    torch.testing.assert_close(total, x + residual, rtol=2**-7, atol=0)
    assert torch.equal(out, interpreter(rms_norm.rms_norm, total, weight, EPS))


def test_a_rows_bits_do_not_depend_on_the_other_rows(interpreter):
    x, weight = make_rows(5, 512), make_rows(1, 512, seed=1)[0]
    together = interpreter(rms_norm.rms_norm, x, weight, EPS)
    alone = interpreter(rms_norm.rms_norm, x[3:4], weight, EPS)
    assert torch.equal(together[3:4], alone)


def test_no_rows_give_no_rows(interpreter):
    assert interpreter(rms_norm.rms_norm, torch.empty(0, 512), torch.ones(512), EPS).shape == (0, 512)


def test_a_weight_of_another_width_is_an_error():
    with pytest.raises(ValueError, match=r"weight \(64,\) does not fit rows of 512"):
        rms_norm.rms_norm(torch.ones(2, 512), torch.ones(64), EPS)
