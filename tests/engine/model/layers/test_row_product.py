"""Products whose rows do not depend on their number."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import InternalError
from services.engine.model.layers.row_product import (
    MOST_ROWS,
    PROBE_ROWS,
    AtLeastTwoRows,
    MultipleOfRows,
    PaddedColumns,
    PlainProducts,
    StableProducts,
    TiledRows,
    rows_are_stable,
)

PRODUCTS = [AtLeastTwoRows(), MultipleOfRows(16), TiledRows(16), PaddedColumns(16, TiledRows(16))]


class Unsteady:
    """A product that, like a BLAS, is another one for few rows."""

    def __init__(self, below):
        self.below = below
        self.counts = []

    def __call__(self, x, weight):
        self.counts.append(x.shape[-2])
        # Element by element, so that the bits are the same on every machine.
        product = sum(x[..., k : k + 1] * weight[k] for k in range(weight.shape[0]))
        return product + (1.0 if x.shape[-2] < self.below else 0.0)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 40])
def test_every_product_multiplies(product, rows):
    x, weight = torch.randn(rows, 24), torch.randn(24, 10)
    torch.testing.assert_close(product(x, weight), x @ weight)
    batch, weights = torch.randn(3, rows, 24), torch.randn(3, 24, 10)
    torch.testing.assert_close(product(batch, weights), batch @ weights)


@pytest.mark.parametrize("product", [MultipleOfRows(16), TiledRows(16)])
def test_rows_of_the_slower_products_are_stable_here(product):
    weight = torch.randn(576, 70)
    assert rows_are_stable(lambda x: product(x, weight), torch.randn(1040, 576))


@pytest.mark.parametrize("shape", [(8, 5), (10, 10), (32, 10), (3, 24, 10), (256, 33), (4, 64, 1)])
def test_weights_with_an_odd_number_of_columns_have_a_stable_product_here(shape):
    StableProducts().with_weight(torch.randn(shape))


def test_a_product_that_changes_with_the_number_of_rows_is_found_out():
    weight = torch.randn(8, 8)
    assert not rows_are_stable(lambda x: Unsteady(16)(x, weight), torch.randn(1040, 8))
    assert rows_are_stable(lambda x: Unsteady(0)(x, weight), torch.randn(1040, 8))


@pytest.mark.parametrize(
    ("shape", "forms"),
    [
        ((1040, 8), {(True, True), (True, False)}),
        ((1040, 16), {(True, True)}),
        ((3, 1040, 16), {(True, True), (False, True)}),
    ],
)
def test_every_number_of_rows_is_tried_in_every_layout_and_alignment_it_may_have(shape, forms):
    """(contiguous, aligned): as a slice of the batch and as a tensor of its own."""
    seen = {count: set() for count in (*PROBE_ROWS, 1040)}

    def product(x):
        seen[x.shape[-2]].add((x.is_contiguous(), x.data_ptr() % 64 == 0))
        return x * 2

    assert rows_are_stable(product, torch.randn(shape))
    assert all(seen[count] == forms for count in PROBE_ROWS)


def test_the_first_stable_candidate_is_chosen_once_per_shape():
    unsteady, steady = Unsteady(16), Unsteady(0)
    products = StableProducts([unsteady, steady])
    assert products.with_weight(torch.randn(8, 4)).args[0] is steady
    tried = len(steady.counts)
    assert products.with_weight(torch.randn(8, 4)).args[0] is steady
    assert len(steady.counts) == tried
    products.with_weight(torch.randn(8, 5))
    assert len(steady.counts) > tried


def test_more_rows_than_were_tried_are_multiplied_in_pieces():
    steady, weight, x = Unsteady(0), torch.randn(8, 4), torch.randn(2 * MOST_ROWS + 5, 8)
    product = StableProducts([steady]).with_weight(weight)
    expected = steady(x, weight)
    steady.counts.clear()
    assert torch.equal(product(x), expected)
    assert steady.counts == [MOST_ROWS, MOST_ROWS, 5]


def test_a_machine_without_any_stable_product_is_refused():
    with pytest.raises(InternalError, match="stable rows"):
        StableProducts([Unsteady(16)]).with_weight(torch.randn(8, 4))


def test_without_determinism_nothing_is_tried():
    assert PlainProducts().with_weight(torch.randn(8, 4)).args[0] is torch.matmul
