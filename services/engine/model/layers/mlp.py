"""The gated MLP of dense layers, shared experts and each routed expert."""

from __future__ import annotations

from torch import Tensor

from services.engine.model.layers.activation import silu
from services.engine.model.layers.projection import Projection
from services.engine.model.layers.row_product import Products


class GatedMLP:
    """down(silu(gate x) * up x), with gate and up as one product."""

    def __init__(self, gate: Tensor, up: Tensor, down: Tensor, products: Products) -> None:
        self._gate_up = Projection(gate, products, up)
        self._down = Projection(down, products)

    def __call__(self, x: Tensor) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        gate, up = self._gate_up(x).chunk(2, dim=-1)
        return self._down(silu(gate) * up)
