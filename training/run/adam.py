"""Adam for parameters that are not matrices of a product: embeddings, head, norms, biases, routers."""

from __future__ import annotations

import torch
from torch import Tensor

BETAS = (0.9, 0.95)
EPSILON = 1e-10


class Adam:
    """Adam over `parameters` by name. `state` holds the first and second moments as ``NAME.first`` and
    ``NAME.second``.
    """

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self._parameters = parameters
        self.state: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            self.state[f"{name}.first"] = torch.zeros_like(parameter)
            self.state[f"{name}.second"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, rate: float, number: int) -> None:
        """Applies update `number`, counted from 1; parameters without a gradient stay unchanged."""
        corrections = tuple(1 - beta**number for beta in BETAS)
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            first, second = self.state[f"{name}.first"], self.state[f"{name}.second"]
            first.lerp_(parameter.grad, 1 - BETAS[0])
            second.lerp_(parameter.grad.square(), 1 - BETAS[1])
            spread = (second / corrections[1]).sqrt_().add_(EPSILON)
            parameter.addcdiv_(first, spread, value=-rate / corrections[0])
