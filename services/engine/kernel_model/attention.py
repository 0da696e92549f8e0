"""Multi-head latent attention of one layer on the kernels: absorbed for decode, expanded for long chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.latent_store import store_latents
from kernels.mla_decode import MLADecode
from kernels.mla_prefill import mla_prefill
from kernels.page_copy import gather_pages
from kernels.rms_norm import rms_norm
from kernels.rope import rotate
from services.engine.kernel_model.step import Absorbed, ExpandedChunk, KernelStep
from services.engine.model.attention.rope import RotaryEmbedding, softmax_scale
from services.engine.model.config.text_config import TextConfig
from services.engine.model.layers.projection import Projection
from services.engine.model.layers.row_product import Products

MOST_EXPANDED = 1 << 28
"""Most values of expanded keys and values held at a time: half a GB in bf16."""


@dataclass(frozen=True)
class Pass:
    """Inputs that all layers share: the step, the pool `[pages, layers, 64, latent + rope]`, the angles."""

    step: KernelStep
    kv_pages: Tensor
    rotary: RotaryEmbedding


class KernelAttention:
    """Attention of one layer; names in `weights` lack ``self_attn.``. LatentAttention explains the
    two forms.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], config: TextConfig, products: Products, decode: MLADecode
    ) -> None:
        self._config = config
        self._decode = decode
        self._scale = softmax_scale(config)
        self._down = Projection(weights["q_a_proj.weight"], products, weights["kv_a_proj_with_mqa.weight"])
        self._q_norm = weights["q_a_layernorm.weight"]
        self._kv_norm = weights["kv_a_layernorm.weight"]
        self._q_up = Projection(weights["q_b_proj.weight"], products)
        self._kv_up = weights["kv_b_proj.weight"].view(config.num_attention_heads, -1, config.kv_lora_rank)
        key_up = self._kv_up[:, : config.qk_nope_head_dim].contiguous()
        value_up = self._kv_up[:, config.qk_nope_head_dim :].transpose(1, 2).contiguous()
        self._absorb = products.with_weight(key_up)
        self._expand = products.with_weight(value_up)
        self._out = Projection(weights["o_proj.weight"], products)

    def __call__(self, x: Tensor, layer: int, shared: Pass) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`, zeros for tokens that other ranks attend for; writes the cache
        entries of all tokens into `layer` of the pages.
        """
        config, step, rotary = self._config, shared.step, shared.rotary
        pages = shared.kv_pages[:, layer]
        down = self._down(x)
        eps = config.rms_norm_eps
        store_latents(
            down[:, config.q_lora_rank :],
            self._kv_norm,
            eps,
            step.positions,
            step.slots,
            rotary.cos,
            rotary.sin,
            pages,
        )
        rows = step.attended.rows
        if rows is None:
            return self._attended(down[:, : config.q_lora_rank], layer, shared)
        output = torch.zeros_like(x)
        if len(rows):
            mine = down[:, : config.q_lora_rank].index_select(0, rows)
            output.index_copy_(0, rows, self._attended(mine, layer, shared))
        return output

    def _attended(self, q_low: Tensor, layer: int, shared: Pass) -> Tensor:
        """`[A, q_lora]` of the tokens attended for -> `[A, hidden]`."""
        query = self._q_up(rms_norm(q_low, self._q_norm, self._config.rms_norm_eps))
        query = query.view(-1, self._config.num_attention_heads, self._config.qk_head_dim)
        return self._out(self._attend(query, layer, shared).flatten(1))

    def _attend(self, query: Tensor, layer: int, shared: Pass) -> Tensor:
        """`[A, heads, nope + rope]`, not yet rotated -> `[A, heads, v]`."""
        attended = shared.step.attended
        absorbed, positions = attended.absorbed, attended.positions
        if absorbed is not None and not attended.chunks:
            return self._attend_absorbed(query, positions, absorbed, layer, shared)
        values = query.new_empty(*query.shape[:2], self._config.v_head_dim)
        if absorbed is not None:
            rows = absorbed.rows
            assert rows is not None
            values[rows] = self._attend_absorbed(query[rows], positions[rows], absorbed, layer, shared)
        rotated = query[..., self._config.qk_nope_head_dim :]
        rotate(rotated, positions, shared.rotary.cos, shared.rotary.sin, rotated)
        for chunk in attended.chunks:
            self._attend_expanded(query, chunk, layer, shared.kv_pages, values)
        return values

    def _attend_absorbed(
        self, query: Tensor, positions: Tensor, absorbed: Absorbed, layer: int, shared: Pass
    ) -> Tensor:
        config = self._config
        nope, rope = query.split([config.qk_nope_head_dim, config.qk_rope_head_dim], dim=-1)
        latent_query = query.new_empty(*query.shape[:2], config.kv_width)
        latent_query[..., : config.kv_lora_rank] = self._absorb(nope.transpose(0, 1)).transpose(0, 1)
        rotary = shared.rotary
        rotate(rope, positions, rotary.cos, rotary.sin, latent_query[..., config.kv_lora_rank :])
        pages = shared.kv_pages[:, layer]
        mixed = self._decode(latent_query, pages, absorbed.page_table, absorbed.context_lens)
        return self._expand(mixed.transpose(0, 1)).transpose(0, 1)

    def _attend_expanded(
        self, query: Tensor, chunk: ExpandedChunk, layer: int, kv_pages: Tensor, values: Tensor
    ) -> None:
        """Writes the chunk's rows of `values [T, heads, v]`; `query` must be rotated."""
        config = self._config
        cached = gather_pages(kv_pages, chunk.page_ids, layer, layer + 1).flatten(0, 2)
        latent, key_rope = cached.split([config.kv_lora_rank, config.qk_rope_head_dim], dim=-1)
        heads, width, _ = self._kv_up.shape
        group = heads_at_a_time(len(cached), width)
        rows = slice(chunk.start, chunk.end)
        for start in range(0, heads, group):
            some = slice(start, start + group)
            weight = self._kv_up[some].flatten(0, 1)
            expanded = torch.mm(latent, weight.t()).view(len(cached), -1, width)
            key, value = expanded.split([config.qk_nope_head_dim, config.v_head_dim], dim=-1)
            values[rows, some] = mla_prefill(
                query[rows, some],
                key,
                key_rope,
                value,
                chunk.query_starts,
                chunk.key_starts,
                chunk.context_lens,
                self._scale,
                chunk.end - chunk.start,
            )


def heads_at_a_time(tokens: int, width: int) -> int:
    """How many heads' keys and values, `width` each, are expanded at a time for a context of so many tokens.

    A power of two, because every number of heads is a kernel of its own, which takes seconds to compile.
    """
    return 1 << (max(1, MOST_EXPANDED // (tokens * width)).bit_length() - 1)
