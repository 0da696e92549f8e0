"""Which pair turns by how much."""

from __future__ import annotations

import math

import torch

from services.engine.model.vision.rope import rope_table, rotate


def test_even_pairs_turn_by_the_column_and_odd_pairs_by_the_row():
    head_dim, rows, columns = 16, 3, 5
    table = rope_table(1, rows, columns, head_dim, torch.device("cpu"))
    for row in range(rows):
        for column in range(columns):
            for pair in range(head_dim // 2):
                place = column if pair % 2 == 0 else row
                angle = place * 10000 ** (-4 * (pair // 2) / head_dim)
                assert math.isclose(table.cos[row * columns + column, 0, pair], math.cos(angle), abs_tol=1e-6)
                assert math.isclose(table.sin[row * columns + column, 0, pair], math.sin(angle), abs_tol=1e-6)


def test_frames_do_not_turn():
    table = rope_table(3, 2, 4, 8, torch.device("cpu"))
    cos = table.cos.view(3, 8, 4)
    assert torch.equal(cos[0], cos[1])
    assert torch.equal(cos[0], cos[2])


def test_adjacent_elements_turn_as_one_complex_number():
    table = rope_table(1, 4, 4, 8, torch.device("cpu"))
    x = torch.randn(16, 2, 8)
    turned = torch.view_as_complex(x.view(16, 2, 4, 2)) * torch.complex(table.cos, table.sin)
    torch.testing.assert_close(rotate(x, table), torch.view_as_real(turned).flatten(-2))
