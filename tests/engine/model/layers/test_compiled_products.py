"""The compiled products against the same written down in PyTorch."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from services.engine.model.layers.compiled_products import CompiledMixture, CompiledProducts
from services.engine.model.layers.mlp import GatedMLP
from services.engine.model.layers.moe import MixtureOfExperts
from services.engine.model.layers.router import ExpertRouter
from services.engine.model.layers.row_product import PlainProducts, rows_are_stable
from tests.engine.text_models import tiny_config

CPU = torch.device("cpu")
HIDDEN, WIDTH, EXPERTS = 40, 24, 6


@pytest.fixture(scope="module")
def products():
    found = CompiledProducts.available(CPU, torch.float32)
    if found is None:
        pytest.skip("nothing can be compiled here: see the log")
    return found


@pytest.fixture(params=[1, 2], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def near(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.std()))


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 9), (7, 15), (40, 16), (256, 70), (600, 130)])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 6, 7, 96, 97, 200])
def test_a_product_is_that_of_matrices(products, rows, inputs, outputs):
    x, weight = torch.randn(rows, inputs), torch.randn(inputs, outputs)
    found = products.with_weight(weight)(x)
    assert found.shape == (rows, outputs)
    if rows:
        near(found, x @ weight)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_a_batch_of_weights_takes_rows_that_lie_apart(products, rows):
    whole, weight = torch.randn(rows, 3, 50), torch.randn(3, 20, 33)
    x = whole[..., 10:30].transpose(0, 1)
    near(products.with_weight(weight)(x), x @ weight)


def test_rows_of_another_width_are_refused(products):
    with pytest.raises(ValueError, match="rows of 5 values for a weight of 4 inputs"):
        products.with_weight(torch.randn(4, 4))(torch.randn(2, 5))


def test_a_row_has_the_same_bits_in_any_batch(products):
    assert rows_are_stable(products.with_weight(torch.randn(300, 70)), torch.randn(1040, 300))
    gate, up, down = weights(0)
    assert rows_are_stable(products.gated_mlp(gate, up, down), torch.randn(1040, HIDDEN))
    assert rows_are_stable(mixture(products), torch.randn(1040, HIDDEN))


def weights(seed, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((width, HIDDEN), (width, HIDDEN), (HIDDEN, width))
    return tuple(torch.randn(shape, generator=generator) * shape[1] ** -0.5 for shape in shapes)


def router(products):
    config = dataclasses.replace(tiny_config(), n_routed_experts=EXPERTS)
    weight = torch.randn(EXPERTS, HIDDEN, generator=torch.Generator().manual_seed(9))
    return ExpertRouter(weight, torch.zeros(EXPERTS), config, products)


def mixture(products):
    experts = products.experts((weights(seed) for seed in range(EXPERTS)), EXPERTS)
    return CompiledMixture(router(products), experts, products.gated_mlp(*weights(50, 48)))


@pytest.mark.parametrize("width", [16, 24, 130])
@pytest.mark.parametrize("rows", [1, 5, 200])
def test_a_gated_mlp_is_the_one_in_pytorch(products, rows, width):
    x, parts = 3 * torch.randn(rows, HIDDEN), weights(1, width)
    near(products.gated_mlp(*parts)(x), GatedMLP(*parts, PlainProducts())(x))


@pytest.mark.parametrize("rows", [1, 5, 400])
def test_a_mixture_is_the_one_in_pytorch(products, rows):
    plain = PlainProducts()
    experts = [GatedMLP(*weights(seed), plain) for seed in range(EXPERTS)]
    expected = MixtureOfExperts(router(plain), experts, GatedMLP(*weights(50, 48), plain))
    x = torch.randn(rows, HIDDEN)
    near(mixture(products)(x), expected(x))


def test_large_and_small_activations_stay_finite(products):
    parts = tuple(torch.eye(16) for _ in range(3))
    x = torch.tensor([[-1e4, -90.0, -20.0, -1.0, 0.0, 1.0, 20.0, 90.0, 1e4] + [0.0] * 7])
    near(products.gated_mlp(*parts)(x), torch.nn.functional.silu(x) * x)


def test_other_dtypes_and_devices_are_left_to_pytorch(products):
    assert CompiledProducts.available(CPU, torch.bfloat16) is None
    assert CompiledProducts.available(torch.device("meta"), torch.float32) is None
    with pytest.raises(ValueError, match="bfloat16"):
        products.with_weight(torch.randn(4, 4).bfloat16())
