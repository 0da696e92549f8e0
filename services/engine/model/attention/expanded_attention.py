"""Attention in the expanded form: keys and values of every head, computed from the context's latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.engine.model.attention.page_views import PageView
from services.engine.model.config.text_config import TextConfig


@dataclass(frozen=True)
class ExpandedLimits:
    """Most float32 values held at a time: `expanded` keys and values, and `scores` of at most `rows` tokens.
    A token does not see the keys of later ones in its group, so more rows mean more products in vain.
    """

    expanded: int = 1 << 25
    scores: int = 1 << 22
    rows: int = 64


def worthwhile_tokens(config: TextConfig) -> int | None:
    """The number of new tokens from which expanding the context takes fewer multiplications than absorbing.

    Per head and key, expanding costs `latent (nope + v)` once, and then a query `nope + rope + v` instead of
    the absorbed form's `2 latent + rope`. None: it never takes fewer.
    """
    nope_and_v = config.qk_nope_head_dim + config.v_head_dim
    saved = 2 * config.kv_lora_rank - nope_and_v
    return None if saved <= 0 else -(-config.kv_lora_rank * nope_and_v // saved)


class ExpandedAttention:
    """The expanded form of one layer, from its `kv_b_proj [heads * (nope + v), latent]`. The results are
    those of the absorbed form except for rounding; a token's bits depend on its chunk.
    """

    def __init__(self, kv_up: Tensor, config: TextConfig, limits: ExpandedLimits | None = None) -> None:
        self._kv_up = kv_up.view(config.num_attention_heads, -1, config.kv_lora_rank)
        self._nope = config.qk_nope_head_dim
        self._limits = limits or ExpandedLimits()

    def attend(self, query: Tensor, first_position: int, pages: Sequence[PageView]) -> Tensor:
        """Attends with consecutive tokens of one sequence; their own keys must be in `pages` already.

        `query [n, heads, nope + rope]`, float32 and scaled, of positions `first_position`, ...; returns
        float32 `[n, heads, v]`. Softmax is in float32, the expansion in the weights' dtype.
        """
        tokens, heads, qk_dim = query.shape
        cached = torch.cat([page.keys for page in pages])[: first_position + tokens]
        v_dim = self._kv_up.shape[1] - self._nope
        group = max(1, self._limits.expanded // (len(cached) * (qk_dim + v_dim)))
        output = query.new_empty(tokens, heads, v_dim)
        for start in range(0, heads, group):
            some = slice(start, start + group)
            keys, values = self._expand(cached, self._kv_up[some])
            output[:, some] = self._attend(query[:, some].transpose(0, 1), keys, values).transpose(0, 1)
        return output

    def _expand(self, cached: Tensor, kv_up: Tensor) -> tuple[Tensor, Tensor]:
        """Entries `[L, latent + rope]` and weights `[h, nope + v, latent]` of h heads -> float32 keys `[h, L,
        nope + rope]` and values `[h, L, v]`.
        """
        heads, _, latent_dim = kv_up.shape
        latent = cached[:, :latent_dim].to(kv_up.dtype)
        expanded = torch.mm(latent, kv_up.flatten(0, 1).t()).view(len(cached), heads, -1).transpose(0, 1)
        rope = cached[:, latent_dim:].float().expand(heads, -1, -1)
        keys = torch.cat([expanded[..., : self._nope].float(), rope], dim=-1)
        return keys, expanded[..., self._nope :].float()

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attends with `query [h, n, nope + rope]`, the last n of L tokens, by row groups: `[h, n, v]`."""
        heads, tokens, _ = query.shape
        length = keys.shape[1]
        rows = max(1, min(self._limits.rows, self._limits.scores // (heads * length)))
        groups = []
        for start in range(0, tokens, rows):
            end = min(start + rows, tokens)
            seen = length - tokens + end
            scores = torch.bmm(query[:, start:end], keys[:, :seen].transpose(1, 2))
            _hide_later(scores)
            groups.append(torch.bmm(scores.softmax(dim=-1), values[:, :seen]))
        return torch.cat(groups, dim=1)


def _hide_later(scores: Tensor) -> None:
    """Masks `scores [heads, n, L]`, whose rows are the last n tokens: each sees keys up to its own."""
    count = scores.shape[1]
    later = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu_(1)
    scores[..., -count:].masked_fill_(later, float("-inf"))
