"""Activations do not depend on memory layout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from services.engine.model.layers.activation import sigmoid, silu


@pytest.mark.parametrize(("ours", "theirs"), [(sigmoid, torch.sigmoid), (silu, functional.silu)])
def test_values_are_those_of_torch_and_equal_at_every_size_and_offset(ours, theirs):
    x = 5 * torch.randn(4000, generator=torch.Generator().manual_seed(3))
    whole = ours(x)
    torch.testing.assert_close(whole, theirs(x), rtol=1e-6, atol=1e-7)
    for size in (1, 2, 7, 15, 16, 17, 31, 33, 63, 100, 1001):
        for start in (0, 1, 5, 16, 900):
            assert torch.equal(ours(x[start : start + size].clone()), whole[start : start + size])
            assert torch.equal(ours(x[start : start + size]), whole[start : start + size])


def test_extremes_are_finite():
    extremes = torch.tensor([-1000.0, -89.0, 0.0, 89.0, 1000.0])
    assert sigmoid(extremes).tolist() == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
    assert silu(extremes).tolist() == pytest.approx([0.0, 0.0, 0.0, 89.0, 1000.0])
