"""A linear map without bias."""

from __future__ import annotations

from torch import Tensor

from services.engine.model.layers.row_product import Products


class Projection:
    """x W^T for a weight `[out, in]`, followed by the outputs of `more` weights for the same inputs."""

    def __init__(self, weight: Tensor, products: Products, *more: Tensor) -> None:
        parts = (weight, *more)
        # As [in, out]: in this layout the BLAS gives the same bits from two rows up (see row_product).
        joined = weight.new_empty(weight.shape[1], sum(len(part) for part in parts))
        start = 0
        for part in parts:
            joined[:, start : start + len(part)] = part.t()
            start += len(part)
        self.product = products.with_weight(joined)

    def __call__(self, x: Tensor) -> Tensor:
        """`[T, in]` -> `[T, out]`."""
        return self.product(x)
