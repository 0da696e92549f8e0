"""A plain loop over the model in this process: no gRPC, no scheduler, no transfer, no cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import FLOAT32, KvFormat
from services.engine.kv_cache.kv_pages import allocate_kv_pages
from services.engine.loading.text import load_text_model
from services.engine.runner import ModelRunner
from tests.support.batches import batch_of


class ReferenceLoop:
    """Computes the greedy tokens that the suite must reproduce: one prompt at a time, in one pass, then token
    by token, over pages of the format.
    """

    def __init__(self, model_dir: Path, kv_format: KvFormat = FLOAT32) -> None:
        self._kv_format = kv_format
        torch.set_num_threads(1)
        self.model = load_text_model(model_dir, deterministic=True)

    @torch.inference_mode()
    def greedy(
        self,
        prompt: Sequence[int],
        num_tokens: int,
        embeds: tuple[tuple[int, torch.Tensor], ...] = (),
        stop: frozenset[int] = frozenset(),
    ) -> list[int]:
        """The `num_tokens` most likely continuations, one by one; ends early with a token of `stop`, which is
        included.
        """
        num_pages = -(-(len(prompt) + num_tokens) // PAGE_TOKENS)
        config = self.model.config
        width = config.kv_lora_rank + config.qk_rope_head_dim
        kv_pages = allocate_kv_pages(num_pages, config.num_hidden_layers, width, self._kv_format)
        runner = ModelRunner(self.model, kv_pages, config.num_hidden_layers, kv_format=self._kv_format)
        pages = list(range(num_pages))
        output: list[int] = []
        item = (list(prompt), 0, pages, True, embeds)
        while True:
            logits = runner.forward(batch_of([item]))
            output.append(int(logits[0].argmax()))
            if len(output) == num_tokens or output[-1] in stop:
                return output
            item = (output[-1:], len(prompt) + len(output) - 1, pages, True)
