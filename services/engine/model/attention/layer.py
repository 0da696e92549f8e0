"""Multi-head latent attention: projections, the cache entry, and its two forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.batch import PAGE_TOKENS
from services.engine.model.attention.expanded_attention import ExpandedAttention
from services.engine.model.attention.page_views import PageViews
from services.engine.model.attention.paged_attention import AttentionPlan, PagedAttention
from services.engine.model.attention.rope import rotate, softmax_scale
from services.engine.model.config.text_config import TextConfig
from services.engine.model.layers.compiled_rows import CompiledRows
from services.engine.model.layers.norm import RMSNorm
from services.engine.model.layers.projection import Projection
from services.engine.model.layers.row_product import Products


@dataclass(frozen=True)
class AttentionContext:
    """Inputs that all layers share in a pass: rotary rows `[T, 1, rope / 2]`, slots int64 `[T]`,
    pages, plan.
    """

    cos: Tensor
    sin: Tensor
    slots: Tensor
    kv_pages: Tensor
    views: PageViews
    plan: AttentionPlan


class LatentAttention:
    """One layer's attention. The cache holds the normalised latent and the rotated rope key, nothing per
    head.

    In the absorbed form kv_b_proj is split into W_UK and W_UV and absorbed into the query and the output:
    score = (q_nope W_UK) c + q_rope k_rope, output = W_UV (sum p c). In deterministic mode prefill uses this
    form as decode does, so that a token's bits do not depend on which of the two computed it. In fast mode
    long chunks take the expanded form, which needs fewer operations for many queries.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        config: TextConfig,
        products: Products,
        attention: PagedAttention,
        inner_eps: float,
        rows: CompiledRows | None = None,
    ) -> None:
        self._config = config
        self._rows = rows
        self._attention = attention
        self.scale = softmax_scale(config)
        self.down = Projection(weights["q_a_proj.weight"], products, weights["kv_a_proj_with_mqa.weight"])
        self.q_norm = RMSNorm(weights["q_a_layernorm.weight"], inner_eps, rows)
        self.kv_norm = RMSNorm(weights["kv_a_layernorm.weight"], inner_eps, rows)
        self.q_up = Projection(weights["q_b_proj.weight"], products)
        nope, heads = config.qk_nope_head_dim, config.num_attention_heads
        kv_b = weights["kv_b_proj.weight"]
        self._expanded = None if attention.expand_from is None else ExpandedAttention(kv_b, config)
        kv_up = kv_b.view(heads, nope + config.v_head_dim, config.kv_lora_rank)
        key_up = kv_up[:, :nope].contiguous()
        value_up = kv_up[:, nope:].transpose(1, 2).contiguous()
        self.absorb = products.with_weight(key_up)
        self.expand = products.with_weight(value_up)
        self.out = Projection(weights["o_proj.weight"], products)

    def __call__(self, x: Tensor, layer: int, context: AttentionContext) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`; writes the tokens' cache entries into `layer` of the pages."""
        config = self._config
        down = self.down(x)
        q_low, entries = down.split([config.q_lora_rank, config.kv_width], dim=-1)
        self._write(entries, layer, context)
        query = self._query(self.q_norm(q_low), context)
        return self.out(self._attend(query, layer, context).flatten(1))

    def _query(self, q_low: Tensor, context: AttentionContext) -> Tensor:
        """The query, rotated and scaled: `[T, heads, nope + rope]`."""
        config = self._config
        query = self.q_up(q_low).view(-1, config.num_attention_heads, config.qk_head_dim)
        if self._rows is not None:
            query = query.contiguous()
            nope = config.qk_nope_head_dim
            self._rows.turn_queries(query, context.cos, context.sin, nope, self.scale)
            return query
        nope, rope = query.split([config.qk_nope_head_dim, config.qk_rope_head_dim], dim=-1)
        return torch.cat([nope, rotate(rope, context.cos, context.sin)], dim=-1) * self.scale

    def _attend(self, query: Tensor, layer: int, context: AttentionContext) -> Tensor:
        """`[T, heads, nope + rope]` -> `[T, heads, v]`."""
        plan = context.plan
        if self._expanded is None or plan.absorbed_rows is None:
            return self._attend_absorbed(query, layer, context)
        values = query.new_empty(*query.shape[:2], self._config.v_head_dim)
        if len(plan.absorbed_rows):
            values[plan.absorbed_rows] = self._attend_absorbed(query[plan.absorbed_rows], layer, context)
        for chunk in plan.expanded:
            rows = slice(chunk.start, chunk.end)
            pages = chunk.pages(context.views, layer)
            values[rows] = self._expanded.attend(query[rows].float(), chunk.first_position, pages)
        return values

    def _attend_absorbed(self, query: Tensor, layer: int, context: AttentionContext) -> Tensor:
        nope, rope = query.split([self._config.qk_nope_head_dim, self._config.qk_rope_head_dim], dim=-1)
        absorbed = self.absorb(nope.transpose(0, 1)).transpose(0, 1)
        latent_query = torch.cat([absorbed, rope], dim=-1).float()
        mixed = self._attention.attend(latent_query, context.views, layer, context.plan).to(query.dtype)
        return self.expand(mixed.transpose(0, 1)).transpose(0, 1)

    def _write(self, entries: Tensor, layer: int, context: AttentionContext) -> None:
        """Writes cache entries from projected `[T, latent + rope]`: normalises the latent, rotates the
        key.
        """
        norm, pages, views = self.kv_norm, context.kv_pages, context.views
        if self._rows is not None and views.in_float32:
            self._rows.store_latents(
                entries, norm.weight, norm.eps, context.cos, context.sin, context.slots, pages[:, layer]
            )
            return
        latent, k_rope = entries.split([self._config.kv_lora_rank, self._config.qk_rope_head_dim], dim=-1)
        rotated = rotate(k_rope.unsqueeze(1), context.cos, context.sin).squeeze(1)
        made = views.kv_format.store(torch.cat([norm(latent), rotated], dim=-1))
        places = torch.div(context.slots, PAGE_TOKENS, rounding_mode="floor")
        pages[places, layer, context.slots % PAGE_TOKENS] = made
