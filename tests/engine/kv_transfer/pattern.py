"""What the memory of a test's source holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pattern(seed: int, entries: int, entry_bytes: int) -> npt.NDArray[np.uint8]:
    """Random bytes of that seed, [entries, entry_bytes]; seed 0 is all zeros."""
    if seed == 0:
        return np.full((entries, entry_bytes), 0, dtype=np.uint8)
    return np.random.default_rng(seed).integers(0, 256, (entries, entry_bytes), dtype=np.uint8)
