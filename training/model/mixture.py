"""Routed experts with a shared expert. The weights of the experts are stacked; the router's bias balances
their load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.engine.model.config.text_config import TextConfig
from training.model.fake_quant import quantised


class GatedMLP(nn.Module):
    """down(silu(gate x) * up x)."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, width, bias=False)
        self.up_proj = nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., hidden]` -> the same."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Experts(nn.Module):
    """The stacked routed experts: `gate_proj`, `up_proj [experts, width, hidden]`, `down_proj [experts,
    hidden, width]`.

    `fake_quant` computes with the values that int4 would store. `on_all_tokens` computes with few large
    matrix products.
    """

    def __init__(self, count: int, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Parameter(torch.empty(count, width, hidden))
        self.up_proj = nn.Parameter(torch.empty(count, width, hidden))
        self.down_proj = nn.Parameter(torch.empty(count, hidden, width))
        self.fake_quant = False
        self.on_all_tokens = False

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """`x [T, hidden]`, experts and their weights `[T, k]` -> the weighted sums `[T, hidden]`."""
        return (self.dense if self.on_all_tokens else self.gathered)(x, chosen, weights)

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """The gate, up and down weights, rounded to int4 if `fake_quant` is set."""
        stacked = self.gate_proj, self.up_proj, self.down_proj
        return tuple(map(quantised, stacked)) if self.fake_quant else stacked  # type: ignore[return-value]

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # its shapes depend on what is chosen
    def gathered(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Computes each expert on the tokens routed to it: the fewest operations, for a CPU."""
        gate, up, down = self.weights()
        order = torch.argsort(chosen.flatten(), stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=gate.shape[0]).tolist()
        tokens = order // chosen.shape[1]
        outputs = []
        for expert, rows in enumerate(x[tokens].split(counts)):
            hidden = functional.silu(functional.linear(rows, gate[expert]))
            outputs.append(functional.linear(hidden * functional.linear(rows, up[expert]), down[expert]))
        scaled = torch.cat(outputs) * weights.flatten()[order].unsqueeze(-1)
        return torch.zeros_like(x).index_add(0, tokens, scaled)

    def dense(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Computes all experts on all tokens and multiplies those not chosen by zero: few large products, for
        a GPU.
        """
        gate, up, down = self.weights()
        shares = x.new_zeros(x.shape[0], gate.shape[0]).scatter(1, chosen, weights.to(x.dtype))
        hidden = functional.silu(x @ gate.flatten(0, 1).t()) * (x @ up.flatten(0, 1).t())
        shared_out = hidden.view(x.shape[0], gate.shape[0], -1) * shares.unsqueeze(-1).to(hidden.dtype)
        return shared_out.flatten(1) @ down.transpose(1, 2).flatten(0, 1)


class Gate(nn.Module):
    """The router. Sigmoid scores plus the bias choose the experts, and scores without the bias weight them.
    `load` counts choices.
    """

    e_score_correction_bias: Tensor
    load: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))
        self.register_buffer("load", torch.zeros(config.n_routed_experts), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, hidden]` -> experts int64 `[T, k]` and their weights float32 `[T, k]`."""
        config = self.config
        with torch.autocast(x.device.type, enabled=False):
            scores = functional.linear(x.float(), self.weight.float()).sigmoid()
            chosen = (scores + self.e_score_correction_bias).topk(config.num_experts_per_tok, dim=-1).indices
            weights = scores.gather(-1, chosen)
            if config.norm_topk_prob:
                weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        if self.training:
            with torch.no_grad():
                counted = torch.ones_like(chosen.flatten(), dtype=self.load.dtype)
                self.load.index_add_(0, chosen.flatten(), counted)
        return chosen, weights * config.routed_scaling_factor

    @torch.no_grad()
    def balance(self, rate: float) -> None:
        """Raises the bias of experts below the mean load, lowers that of the others, and resets the
        counts.
        """
        self.e_score_correction_bias += rate * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


class MixtureOfExperts(nn.Module):
    """A mixture-of-experts layer whose submodules have the published names below ``mlp.``, except for the
    stacked experts.

    Without `routed`, only the shared experts are computed.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.moe_intermediate_size
        self.gate = Gate(config)
        self.experts = Experts(config.n_routed_experts, config.hidden_size, width)
        self.shared_experts = GatedMLP(config.hidden_size, width * config.n_shared_experts)
        self.routed = True

    def forward(self, x: Tensor) -> Tensor:
        """`[B, L, hidden]` -> the same."""
        out: Tensor = self.shared_experts(x)
        if self.routed:
            flat = x.flatten(0, 1)
            out = out + self.experts(flat, *self.gate(flat)).view_as(x)
        return out
