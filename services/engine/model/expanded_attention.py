"""Attention in the plain form: keys and values of every head, expanded from the latents of a chunk's context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.engine.model.config import TextConfig
from services.engine.model.page_views import PageView

MAX_SCORES = 1 << 22
"""Scores of float32 held at a time, over all heads: 16 MiB."""


def worthwhile_tokens(config: TextConfig) -> int | None:
    """From how many new tokens on expanding the context takes fewer multiplications than absorbing.

    Per head and key, expanding costs `latent (nope + v)` once, and then a query `nope + rope + v` instead of
    the absorbed form's `2 latent + rope`. None: it never pays.
    """
    nope_and_v = config.qk_nope_head_dim + config.v_head_dim
    saved = 2 * config.kv_lora_rank - nope_and_v
    return None if saved <= 0 else -(-config.kv_lora_rank * nope_and_v // saved)


class ExpandedAttention:
    """Of one layer, by its `kv_b_proj [heads * (nope + v), latent]`. The numbers are those of the absorbed form
    but for rounding; a token's bits depend on the chunk it came in.
    """

    def __init__(self, kv_up: Tensor, config: TextConfig, max_scores: int = MAX_SCORES) -> None:
        self._kv_up = kv_up
        self._max_scores = max_scores
        self._heads = config.num_attention_heads
        self._nope = config.qk_nope_head_dim

    def attend(self, query: Tensor, first_position: int, pages: Sequence[PageView]) -> Tensor:
        """Consecutive tokens of one sequence; their own keys are in `pages` already.

        `query [n, heads, nope + rope]`, float32 and scaled, of positions `first_position`, ...; returns
        float32 `[n, heads, v]`. Softmax is in float32, the expansion in the weights' dtype.
        """
        tokens, heads, _ = query.shape
        length = first_position + tokens
        keys, values = self._expand(torch.cat([page.keys for page in pages])[:length])
        by_head = query.transpose(0, 1)
        output = query.new_empty(heads, tokens, values.shape[-1])
        rows = max(1, self._max_scores // (heads * length))
        for start in range(0, tokens, rows):
            end = min(start + rows, tokens)
            seen = first_position + end
            scores = torch.bmm(by_head[:, start:end], keys[:, :seen].transpose(1, 2))
            _hide_later(scores)
            output[:, start:end] = torch.bmm(scores.softmax(dim=-1), values[:, :seen])
        return output.transpose(0, 1)

    def _expand(self, cached: Tensor) -> tuple[Tensor, Tensor]:
        """Entries `[L, latent + rope]` -> float32 keys `[heads, L, nope + rope]` and values `[heads, L, v]`."""
        latent_dim = self._kv_up.shape[1]
        latent = cached[:, :latent_dim].to(self._kv_up.dtype)
        expanded = torch.mm(latent, self._kv_up.t()).view(len(cached), self._heads, -1).transpose(0, 1)
        rope = cached[:, latent_dim:].float().expand(self._heads, -1, -1)
        keys = torch.cat([expanded[..., : self._nope].float(), rope], dim=-1)
        return keys, expanded[..., self._nope :].float()


def _hide_later(scores: Tensor) -> None:
    """Of `scores [heads, n, L]` whose rows are the tokens of the last n keys: each sees keys up to its own."""
    count = scores.shape[1]
    later = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu_(1)
    scores[..., -count:].masked_fill_(later, float("-inf"))
