from __future__ import annotations

import torch

from training.run.muon import Muon, orthogonal


def test_an_update_has_singular_values_close_to_one():
    matrices = torch.randn(3, 20, 48, generator=torch.Generator().manual_seed(1))
    for shape in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonal(shape.contiguous()))
        assert values.min() > 0.3
        assert values.max() < 1.4


def test_each_matrix_of_a_stack_is_updated_as_if_it_were_alone():
    generator = torch.Generator().manual_seed(2)
    stack = torch.randn(2, 8, 6, generator=generator)
    alone = stack[1].clone()
    gradients = torch.randn(2, 8, 6, generator=generator)
    together, single = {"w": stack.requires_grad_()}, {"w": alone.requires_grad_()}
    together["w"].grad, single["w"].grad = gradients, gradients[1].clone()
    Muon(together).step(0.1)
    Muon(single).step(0.1)
    torch.testing.assert_close(stack[1], alone, rtol=1e-4, atol=1e-5)


def test_a_parameter_without_a_gradient_stays():
    parameter = torch.ones(4, 4, requires_grad=True)
    Muon({"w": parameter}).step(0.1)
    assert torch.equal(parameter, torch.ones(4, 4))
