"""The router's choice by a compiled loop: services/engine/native/router.c."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from services.engine.model.config.text_config import TextConfig
from services.engine.model.layers.router import ExpertRouter
from services.engine.model.layers.row_product import Products
from services.engine.native.library import address, library


class CompiledRouter(ExpertRouter):
    """ExpertRouter for float32 on a CPU, if loops are compiled."""

    def __init__(self, weight: Tensor, bias: Tensor, config: TextConfig, products: Products) -> None:
        super().__init__(weight, bias, config, products)
        loops = library()
        assert loops is not None
        self._choose = loops.perigee_choose_experts
        self._choose.restype = None

    def select(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """See ExpertRouter.select; experts are int32."""
        rows, experts = logits.shape
        chosen = torch.empty(rows, self.top_k, dtype=torch.int32)
        weights, scores = torch.empty(rows, self.top_k), torch.empty(2, experts)
        sizes = (rows, experts, self.top_k, int(self.normalise), ctypes.c_float(self.scale))
        logits = logits.contiguous()
        parts = map(address, (chosen, weights, logits, self.bias))
        self._choose(*parts, *sizes, address(scores))
        return chosen, weights
