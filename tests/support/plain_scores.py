"""Log-probabilities of a prompt from a plain forward in this process: all logits at once, log_softmax."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.kv_cache.kv_pages import allocate_kv_pages
from services.engine.model.text_model import TextModel
from services.engine.runner import ModelRunner
from tests.support.batches import batch_of

Embeds = tuple[tuple[int, torch.Tensor], ...]


@torch.inference_mode()
def plain_logprobs(model: TextModel, prompt: Sequence[int], embeds: Embeds = ()) -> torch.Tensor:
    """float64 `[tokens - 1, vocab]`: row t holds the log-probabilities of token t + 1."""
    num_pages, config = -(-len(prompt) // PAGE_TOKENS), model.config
    width = config.kv_lora_rank + config.qk_rope_head_dim
    kv_pages = allocate_kv_pages(num_pages, config.num_hidden_layers, width, FLOAT32)
    batch = batch_of([(list(prompt), 0, list(range(num_pages)), True, embeds)])
    rows = dataclasses.replace(batch, logits_rows=torch.arange(len(prompt) - 1))
    logits = ModelRunner(model, kv_pages, config.num_hidden_layers).forward(rows)
    return logits.double().log_softmax(-1)


def own_logprobs(model: TextModel, prompt: Sequence[int], embeds: Embeds = ()) -> list[float]:
    """Those of the tokens 1, 2, ... of the prompt."""
    rows = plain_logprobs(model, prompt, embeds)
    return rows.gather(1, torch.tensor(prompt[1:])[:, None])[:, 0].tolist()
