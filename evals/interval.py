"""The confidence interval of a share of right answers."""

from __future__ import annotations

import math

Z = 1.959964
"""The normal quantile of a two-sided 95 % interval."""


def wilson(right: int, cases: int) -> tuple[float, float]:
    """Wilson's score interval at 95 %, each end from 0 to 1; (0, 1) if there are no cases."""
    if not cases:
        return 0.0, 1.0
    share = right / cases
    spread = 1 + Z * Z / cases
    centre = (share + Z * Z / (2 * cases)) / spread
    half = Z * math.sqrt(share * (1 - share) / cases + Z * Z / (4 * cases * cases)) / spread
    return max(0.0, centre - half), min(1.0, centre + half)
