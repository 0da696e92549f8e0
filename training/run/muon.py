"""Muon: momentum for matrices, with each update made orthogonal by Newton-Schulz iterations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.run.ranks import Ranks

# Coefficients of the quintic iteration, from its publication; they move all singular values close to 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
MOMENTUM = 0.95
WEIGHT_DECAY = 0.02


class Muon:
    """Muon over `parameters` by name, matrices `[out, in]` or stacks `[n, out, in]`. Each of the `ranks`
    computes the iterations for its share of the matrices.

    `state` is the momentum in bf16: the iterations run in bf16, so that precision suffices, and it halves the
    size of a checkpoint.
    """

    def __init__(
        self,
        parameters: dict[str, Tensor],
        ranks: Ranks = Ranks(),  # noqa: B008 - it cannot change
    ) -> None:
        self._parameters = parameters
        self._ranks = ranks
        self.state = {
            name: torch.zeros_like(parameter, dtype=torch.bfloat16) for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Applies one update of `rate` from the gradients; parameters without a gradient stay unchanged."""
        shapes: dict[torch.Size, list[str]] = {}
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self.state[name].copy_(self.state[name].float().lerp_(parameter.grad, 1 - MOMENTUM))
                shapes.setdefault(parameter.shape[-2:], []).append(name)
        for names in shapes.values():
            self._update(names, rate)

    def _update(self, names: Sequence[str], rate: float) -> None:
        stacks = []
        for name in names:
            gradient = self._parameters[name].grad
            assert gradient is not None
            update = gradient.lerp(self.state[name].float(), MOMENTUM)
            stacks.append(update.view(-1, *update.shape[-2:]))
        updates = self._orthogonal(torch.cat(stacks)).split([len(stack) for stack in stacks])
        for name, update in zip(names, updates, strict=True):
            parameter = self._parameters[name]
            scale = max(1.0, parameter.shape[-2] / parameter.shape[-1]) ** 0.5
            parameter.mul_(1 - rate * WEIGHT_DECAY)
            parameter.add_(update.view_as(parameter), alpha=-rate * scale)

    def _orthogonal(self, matrices: Tensor) -> Tensor:
        share = slice(self._ranks.rank, None, self._ranks.size)
        if self._ranks.size == 1:
            return orthogonal(matrices)
        whole = torch.zeros_like(matrices)
        if len(matrices[share]):
            whole[share] = orthogonal(matrices[share])
        self._ranks.add_up([whole])
        return whole


def orthogonal(matrices: Tensor) -> Tensor:
    """`[n, rows, columns]`: the nearest matrices with singular values of about 1, computed in bf16
    on a GPU.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    x = x.to(matrices.dtype)
    result: Tensor = x.mT if tall else x
    return result
