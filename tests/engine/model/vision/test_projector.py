"""Merging patches."""

from __future__ import annotations

import pytest
import torch

from services.engine.model.vision.projector import merge_patches


def test_a_group_is_two_by_two_neighbours_row_by_row():
    x = torch.arange(4 * 6, dtype=torch.float32)[:, None]
    groups = merge_patches(x, 1, 4, 6, (2, 2))[..., 0]
    assert groups[0].tolist() == [0, 1, 6, 7]
    assert groups[1].tolist() == [2, 3, 8, 9]
    assert groups[3].tolist() == [12, 13, 18, 19]


def test_frames_are_averaged():
    x = torch.randn(3 * 4, 5)
    expected = x.view(3, 4, 5).mean(dim=0)
    torch.testing.assert_close(merge_patches(x, 3, 2, 2, (2, 2)), expected[None])


def test_a_grid_the_kernel_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        merge_patches(torch.zeros(6, 4), 1, 2, 3, (2, 2))
