"""The mixture of experts: routed experts on the tokens that chose them, plus the shared expert on all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from services.engine.model.layers.mlp import GatedMLP
from services.engine.model.layers.router import Select


class MixtureOfExperts:
    """sum_k w_k expert_k(x) + shared(x), summed in the order of the router's choice."""

    def __init__(self, router: Select, experts: Sequence[GatedMLP], shared: GatedMLP) -> None:
        self._router = router
        self._experts = experts
        self._shared = shared

    def __call__(self, x: Tensor) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        chosen, weights = self._router(x)
        outputs = self._routed(x, chosen) * weights.to(x.dtype).unsqueeze(-1)
        return reduce(torch.add, outputs.unbind(1)) + self._shared(x)

    def _routed(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Outputs of every token's chosen experts, `[T, k, hidden]`, zeros for a choice of -1; each expert
        runs once, on all its rows.
        """
        flat = chosen.flatten()
        order = torch.argsort(flat, stable=True)
        start, *counts = torch.bincount(flat + 1, minlength=len(self._experts) + 1).tolist()
        gathered = x[order // chosen.shape[1]]
        outputs = torch.zeros_like(gathered)
        for expert, count in zip(self._experts, counts, strict=True):
            if count:
                outputs[order[start : start + count]] = expert(gathered[start : start + count])
                start += count
        return outputs.view(*chosen.shape, -1)
