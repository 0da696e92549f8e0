"""Multi-head latent attention over whole rows with expanded keys and values: no cache, no absorbed
weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.engine.model.attention.rope import rotate, softmax_scale
from services.engine.model.config.text_config import TextConfig


@dataclass(frozen=True)
class RowContext:
    """Inputs that all layers share: RoPE rows `[B, L, 1, rope / 2]` and `mask [B, 1, L, L]`, which is true
    where a query may attend.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor


class Attention(nn.Module):
    """Attention whose submodules have the published names below ``self_attn.``."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        heads = config.num_attention_heads
        self.q_a_proj = nn.Linear(config.hidden_size, config.q_lora_rank, bias=False)
        self.q_a_layernorm = nn.RMSNorm(config.q_lora_rank, config.rms_norm_eps)
        self.q_b_proj = nn.Linear(config.q_lora_rank, heads * config.qk_head_dim, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(config.hidden_size, config.kv_width, bias=False)
        self.kv_a_layernorm = nn.RMSNorm(config.kv_lora_rank, config.rms_norm_eps)
        width = config.qk_nope_head_dim + config.v_head_dim
        self.kv_b_proj = nn.Linear(config.kv_lora_rank, heads * width, bias=False)
        self.o_proj = nn.Linear(heads * config.v_head_dim, config.hidden_size, bias=False)

    def forward(self, x: Tensor, context: RowContext) -> Tensor:
        """`[B, L, hidden]` -> the same."""
        config = self.config
        heads, nope, rope = config.num_attention_heads, config.qk_nope_head_dim, config.qk_rope_head_dim
        # Norms run in float32, whatever the dtype of the matrix products.
        q_low = self.q_a_layernorm(self.q_a_proj(x).float())
        query = self.q_b_proj(q_low).unflatten(-1, (heads, -1))
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([config.kv_lora_rank, rope], dim=-1)
        expanded = self.kv_b_proj(self.kv_a_layernorm(latent.float())).unflatten(-1, (heads, -1))
        k_nope, value = expanded.split([nope, config.v_head_dim], dim=-1)
        q_nope, q_rope = query.split([nope, rope], dim=-1)
        q_turned = rotate(q_rope, context.cos, context.sin).to(q_nope.dtype)
        k_turned = rotate(k_rope.unsqueeze(2), context.cos, context.sin).to(k_nope.dtype)
        mixed = functional.scaled_dot_product_attention(
            _joined(q_nope, q_turned),
            _joined(k_nope, k_turned.expand(-1, -1, heads, -1)),
            value.transpose(1, 2),
            attn_mask=context.mask,
            scale=softmax_scale(config),
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out


def _joined(nope: Tensor, rope: Tensor) -> Tensor:
    return torch.cat([nope, rope], dim=-1).transpose(1, 2)
