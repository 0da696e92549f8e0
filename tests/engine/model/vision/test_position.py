"""The learned table and its resampling."""

from __future__ import annotations

import math

import torch

from services.engine.model.vision.position import DividedPositionEmbedding, temporal_table


def embedding(rows: int, columns: int, width: int) -> DividedPositionEmbedding:
    torch.manual_seed(3)
    module = DividedPositionEmbedding(rows, columns, width, max_frames=4)
    torch.nn.init.normal_(module.weight)
    return module


def test_a_grid_of_the_tables_size_takes_the_table_as_it_is():
    module = embedding(4, 6, 8)
    assert torch.equal(module(1, 4, 6), module.weight.flatten(0, 1))


def test_a_constant_table_stays_constant_at_every_size():
    module = embedding(4, 4, 8)
    torch.nn.init.constant_(module.weight, 0.75)
    torch.testing.assert_close(module(1, 7, 3), torch.full((21, 8), 0.75))


def test_one_frame_gets_nothing_of_the_temporal_table_and_the_first_of_several_does():
    module = embedding(4, 4, 8)
    several = module(2, 4, 4).view(2, 16, 8)
    torch.testing.assert_close(
        several[0] - module(1, 4, 4), temporal_table(2, 8, torch.device("cpu"))[:1].expand(16, 8)
    )


def test_the_temporal_table_is_sines_then_cosines():
    table = temporal_table(4, 6, torch.device("cpu"))
    for frame in range(4):
        for k in range(3):
            angle = frame * 10000 ** (-2 * k / 6)
            assert math.isclose(table[frame, k], math.sin(angle), abs_tol=1e-6)
            assert math.isclose(table[frame, 3 + k], math.cos(angle), abs_tol=1e-6)
