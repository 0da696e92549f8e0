"""Attention of a block of query rows over one sequence's latent pages, page by page in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from services.engine.batch import PAGE_TOKENS
from services.engine.model.attention.page_views import PageView
from services.engine.model.layers.row_product import PROBE_BATCH, TILE_ROWS, rows_are_stable

BLOCK_ROWS = 1024
_MINUS_INFINITY = float("-inf")


class TiledAttention:
    """Softmax attention in the absorbed form: keys are latent and rope key, values are the latent.

    A row's result has the same bits in every block, because each page is one split: the maximum over all
    pages is exact, exponentials are elementwise, sums run inside a page and then over the pages in order.
    Pages that a row must not see contribute exact zeros at the end.
    """

    def __init__(self, block_rows: int = BLOCK_ROWS) -> None:
        self._block_rows = block_rows

    @classmethod
    def stable(cls, latent_dim: int, key_dim: int, device: torch.device) -> TiledAttention:
        """Takes large blocks if their products keep rows stable on this machine, else tiles of 16 rows."""
        generator = torch.Generator().manual_seed(1)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device)

        keys = random(PAGE_TOKENS, key_dim)
        values = keys[:, :latent_dim]

        def scores(rows: Tensor) -> Tensor:
            return torch.mm(_padded(rows), keys.t())[: rows.shape[0]]

        def accumulate(rows: Tensor) -> Tensor:
            padded = _padded(rows)
            total = padded[:, PAGE_TOKENS:].contiguous()
            return total.addmm_(padded[:, :PAGE_TOKENS].contiguous(), values)[: rows.shape[0]]

        stable = rows_are_stable(scores, random(PROBE_BATCH, key_dim))
        stable = stable and rows_are_stable(accumulate, random(PROBE_BATCH, PAGE_TOKENS + latent_dim))
        return cls(BLOCK_ROWS if stable else TILE_ROWS)

    def attend(self, query: Tensor, first_position: int, pages: Sequence[PageView]) -> Tensor:
        """Attends with consecutive tokens of one sequence; their own keys must be in `pages` already.

        `query [n, heads, latent + rope]`, float32 and scaled, of positions `first_position`, ...; returns
        float32 `[n, heads, latent]`. Pages of a narrower dtype are widened.
        """
        tokens, heads, _ = query.shape
        rows = query.reshape(tokens * heads, -1)
        positions = torch.arange(first_position, first_position + tokens, device=query.device)
        row_positions = positions.repeat_interleave(heads)
        outputs = []
        for start in range(0, tokens * heads, self._block_rows):
            end = min(start + self._block_rows, tokens * heads)
            lowest = first_position + start // heads
            count = (first_position + (end - 1) // heads) // PAGE_TOKENS + 1
            used = first_position + tokens - (count - 1) * PAGE_TOKENS
            outputs.append(_attend(rows[start:end], row_positions[start:end], lowest, pages[:count], used))
        return torch.cat(outputs).view(tokens, heads, -1)


def _attend(
    rows: Tensor, positions: Tensor, lowest: int, pages: Sequence[PageView], used_of_last: int
) -> Tensor:
    """Attends with some rows. `used_of_last`: written slots of the last page; all of them if above 64."""
    count = rows.shape[0]
    padded = _padded(rows)
    scores = padded.new_empty(len(pages), padded.shape[0], PAGE_TOKENS)
    for page, out in zip(pages, scores.unbind(0), strict=True):
        torch.mm(padded, page.keys.float().t(), out=out)
    _mask(scores[:, :count], positions, lowest)
    highest = scores.amax(dim=(0, 2))
    weights = scores.sub_(highest[None, :, None]).exp_()
    total = weights.new_zeros(padded.shape[0])
    for page_sum in weights.sum(dim=-1).unbind(0):
        total += page_sum
    output = padded.new_zeros(padded.shape[0], pages[0].values.shape[1])
    *whole, last = pages
    for page, page_weights in zip(whole, weights[:-1].unbind(0), strict=True):
        output.addmm_(page_weights, page.values.float())
    output.addmm_(weights[-1], last.summable_values(used_of_last))
    return (output / total[:, None])[:count]


def _mask(scores: Tensor, positions: Tensor, lowest: int) -> None:
    """Hides keys later than each row; only pages from the block's first position on can hold such keys."""
    first_page = lowest // PAGE_TOKENS
    tail = scores[first_page:]
    keys = torch.arange(first_page * PAGE_TOKENS, scores.shape[0] * PAGE_TOKENS, device=scores.device)
    tail.masked_fill_(keys.view(-1, 1, PAGE_TOKENS) > positions[None, :, None], _MINUS_INFINITY)


def _padded(rows: Tensor) -> Tensor:
    missing = -rows.shape[0] % TILE_ROWS
    return functional.pad(rows, (0, 0, 0, missing)) if missing else rows
