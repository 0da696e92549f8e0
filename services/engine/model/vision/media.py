"""Media that the tower takes together, one after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Grid: TypeAlias = tuple[int, int, int]
"""Frames, rows and columns of a medium's patches."""


def lengths_of(grids: Sequence[Grid]) -> list[int]:
    """The number of patches of each medium."""
    return [math.prod(grid) for grid in grids]


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts, one part after another; without a copy if there is only one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
