"""Compares the logits of the slice on kernels with those of the model in plain PyTorch, with fewer
experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.random_weights import Dequantised, RandomWeights
from benchmarks.slice_row import Cases, Row
from benchmarks.slice_sizes import Sizes
from services.engine.batch import PAGE_TOKENS, BatchBuilder, ForwardBatch
from services.engine.kernel_model.decode_graphs import DecodeGraphs, Recorded
from services.engine.kernel_model.text_model import KernelTextModel
from services.engine.model.attention.expanded_attention import worthwhile_tokens
from services.engine.model.attention.page_views import PageViews
from services.engine.model.config.text_config import TextConfig
from services.engine.model.text_model import TextModel

Record = Callable[[Callable[[], None]], Recorded]


class NewTokens(NamedTuple):
    """New tokens of one sequence; `start`: the position of the first, `pages`: the sequence's."""

    token_ids: list[int]
    start: int
    pages: list[int]


Step = list[NewTokens]
_STEPS = 2


class SliceLogits:
    """Prompts, the last long enough for the expanded form, and decode steps of all of them."""

    def __init__(self, sizes: Sizes, device: torch.device, record: Record) -> None:
        self._dtype = sizes.dtype
        self._device = device
        self._record = record
        chosen = min(sizes.few, sizes.config.num_experts_per_tok)
        self._config = replace(sizes.config, n_routed_experts=sizes.few, num_experts_per_tok=chosen)
        self._weights = RandomWeights(self._config, device, sizes.dtype)
        lengths = (35, 5, (worthwhile_tokens(self._config) or 0) + 1)
        each = -(-(max(lengths) + _STEPS) // PAGE_TOKENS)
        self._tables = [list(range(row * each, (row + 1) * each)) for row in range(len(lengths))]
        self._prompts = [
            [3 + place % 50 for place in range(row, row + length)] for row, length in enumerate(lengths)
        ]

    def cases(self) -> Cases:
        """Every step in both modes; in deterministic mode also the bits of its rows."""
        wanted = self._wanted()
        for deterministic in (False, True):
            yield from self._mode(deterministic, wanted)

    def _wanted(self) -> list[Tensor]:
        """The logits of every step, from plain PyTorch in float32."""
        plain = TextModel(self._config, Dequantised(self._weights), deterministic=False)
        pages = self._pages().float()
        views = PageViews(pages, self._config.kv_lora_rank)
        steps = [*self._prefills(), *self._decodes()]
        return [plain.forward(_batch(step, self._device), pages, views) for step in steps]

    def _mode(self, deterministic: bool, wanted: Sequence[Tensor]) -> Cases:
        model = KernelTextModel(self._config, self._weights, deterministic)
        part = f"logits, {'deterministic' if deterministic else 'fast'}"
        names = [f"prompt of {len(prompt)}" for prompt in self._prompts]
        names += [f"decode step {step + 1} of {len(self._prompts)} rows" for step in range(_STEPS)]
        run = _Steps(model, self._pages(), self._record, len(self._prompts))
        steps = [*self._prefills(), *self._decodes()]
        found: list[Tensor] = []

        def compare(step: Step, right: Tensor, row: Row) -> None:
            found.append(run(step))
            row.compare(found[-1], right)

        for name, step, right in zip(names, steps, wanted, strict=True):
            yield f"{part}, {name}", partial(compare, step, right)
        if deterministic:
            yield f"{part}, the same bits alone as in a batch", partial(self._same_bits, model, found)

    def _same_bits(self, model: KernelTextModel, found: Sequence[Tensor], row: Row) -> None:
        """Runs prompts in one batch and decode steps alone: the other way round than before."""
        run = _Steps(model, self._pages(), self._record, 1)
        together = [item for (item,) in self._prefills()]
        alone = [[item] for step in self._decodes() for item in step]
        again = torch.cat([run(step) for step in (together, *alone)])
        row.judge(torch.equal(again, torch.cat(list(found))))

    def _prefills(self) -> list[Step]:
        return [[NewTokens(ids, 0, self._tables[row])] for row, ids in enumerate(self._prompts)]

    def _decodes(self) -> list[Step]:
        return [
            [
                NewTokens([7 + number], len(prompt) + number, self._tables[row])
                for row, prompt in enumerate(self._prompts)
            ]
            for number in range(_STEPS)
        ]

    def _pages(self) -> Tensor:
        return random_pages(self._config, sum(map(len, self._tables)), self._dtype, self._device)


class _Steps:
    """A model over its own pages, with decode steps of up to `rows` sequences as graphs."""

    def __init__(self, model: KernelTextModel, pages: Tensor, record: Record, rows: int) -> None:
        self._model = model
        self._pages = pages
        self._views = PageViews(pages, model.config.kv_lora_rank)
        self._graphs = DecodeGraphs(model, pages, record, most_rows=rows)

    def __call__(self, step: Step) -> Tensor:
        """Logits of the last token of each sequence."""
        batch = _batch(step, self._model.device)
        if batch.is_decode_step:
            return self._graphs.run(batch).clone()
        return self._model.forward(batch, self._pages, self._views)


def _batch(step: Step, device: torch.device) -> ForwardBatch:
    builder = BatchBuilder()
    for token_ids, start, pages in step:
        builder.add(token_ids, start, pages, wants_logits=True)
    return builder.build(device)


def random_pages(config: TextConfig, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random pages `[count, layers, 64, latent + rope]`, the same each time."""
    shape = (count, config.num_hidden_layers, PAGE_TOKENS, config.kv_width)
    generator = torch.Generator(device).manual_seed(1)
    return torch.randn(shape, device=device, dtype=dtype, generator=generator)
