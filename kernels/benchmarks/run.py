"""The call of a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

Run: TypeAlias = Callable[[int], tuple[Tensor, ...]]
"""Computes from the copy-th of some sets of inputs, as `Case.run` does."""
