"""A linear map without bias."""

from __future__ import annotations

from torch import Tensor

from services.engine.model.row_product import Products


class Projection:
    """x W^T for a weight `[out, in]`."""

    def __init__(self, weight: Tensor, products: Products) -> None:
        # Kept as [in, out]: in this order the BLAS gives the same bits from two rows up (see row_product).
        self._weight = weight.t().contiguous()
        self._multiply = products.product_for(self._weight)

    def __call__(self, x: Tensor) -> Tensor:
        """`[T, in]` -> `[T, out]`."""
        return self._multiply(x, self._weight)
