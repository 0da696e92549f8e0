from __future__ import annotations

import torch

from services.engine.weights.int4 import dequantise, pack
from training.model.fake_quant import quantise, quantised


def weight():
    return torch.randn(48, 96, generator=torch.Generator().manual_seed(1))


def test_a_rounded_weight_is_what_the_packed_format_reads_back():
    values, scales = quantise(weight())
    read = dequantise(pack(values.to(torch.int8)), scales, torch.empty(48, 96))
    assert torch.equal(quantised(weight()), read)


def test_no_value_is_further_off_than_half_a_step():
    step = quantise(weight())[1].float().repeat_interleave(32, dim=-1)
    assert ((quantised(weight()) - weight()).abs() <= 0.51 * step).all()


def test_the_gradient_passes_as_if_nothing_were_rounded():
    tensor = weight().requires_grad_()
    quantised(tensor).square().sum().backward()
    assert torch.allclose(tensor.grad, 2 * quantised(weight()))


def test_a_group_of_zeros_stays_zeros():
    assert torch.equal(quantised(torch.zeros(2, 64)), torch.zeros(2, 64))
