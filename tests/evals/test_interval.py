from __future__ import annotations

import pytest

from evals.interval import wilson


@pytest.mark.parametrize(
    ("right", "cases", "low", "high"),
    [(285, 300, 0.9191, 0.9694), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilsons_interval(right, cases, low, high):
    assert wilson(right, cases) == pytest.approx((low, high), abs=5e-4)
