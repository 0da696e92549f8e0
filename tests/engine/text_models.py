"""Small text models with random weights, and the plain loops that tests compare against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from services.engine.batch import PAGE_TOKENS, ForwardBatch
from services.engine.model.config.text_config import TextConfig
from services.engine.model.config.yarn import YarnScaling
from services.engine.model.tensor_names import text_tensors
from services.engine.model.text_model import TextModel
from services.engine.runner import ModelRunner
from tests.support.batches import NewTokens, batch_of

TINY = TextConfig(
    hidden_size=40,
    num_hidden_layers=3,
    first_k_dense_replace=1,
    intermediate_size=56,
    moe_intermediate_size=24,
    num_attention_heads=3,
    q_lora_rank=20,
    kv_lora_rank=32,
    qk_nope_head_dim=12,
    qk_rope_head_dim=8,
    v_head_dim=10,
    n_routed_experts=6,
    num_experts_per_tok=3,
    n_shared_experts=1,
    norm_topk_prob=True,
    routed_scaling_factor=2.5,
    rms_norm_eps=1e-5,
    rope_theta=50000.0,
    rope_scaling=YarnScaling(4.0, 64, 32.0, 1.0, 1.0, 1.0),
    max_position_embeddings=1024,
    vocab_size=97,
)
"""Odd widths on purpose: vectorised code treats the last few elements of such rows differently."""


def tiny_config(**changes: object) -> TextConfig:
    """TINY with some fields replaced."""
    return dataclasses.replace(TINY, **changes)  # type: ignore[arg-type]


def random_weights(config: TextConfig, seed: int = 0) -> dict[str, Tensor]:
    """Float32 tensors of every published text name, scaled so that activations neither die nor explode."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in text_tensors(config).items():
        values = torch.randn(shape, generator=generator)
        if "norm" in name:
            weights[name] = 1.0 + 0.2 * values
        elif name.endswith("e_score_correction_bias"):
            weights[name] = 0.1 * values
        elif "embed_tokens" in name:
            weights[name] = values
        else:
            weights[name] = values * (1.5 / shape[1] ** 0.5)
    return weights


def tiny_model(
    config: TextConfig = TINY, deterministic: bool = True, seed: int = 0, device: str = "cpu"
) -> TextModel:
    """A model of random weights, the same on every device."""
    weights = {name: tensor.to(device) for name, tensor in random_weights(config, seed).items()}
    return TextModel(config, weights, deterministic)


def make_runner(model: TextModel, num_pages: int, layers_per_group: int = 1) -> ModelRunner:
    """A runner over a pool of its own, filled with finite garbage as a used pool would be."""
    config = model.config
    shape = (num_pages, config.num_hidden_layers, PAGE_TOKENS, config.kv_width)
    garbage = torch.randn(shape, generator=torch.Generator().manual_seed(99))
    return ModelRunner(model, garbage.to(model.device), layers_per_group)


def batch_for(runner: ModelRunner, *items: NewTokens) -> ForwardBatch:
    """On the runner's device."""
    return batch_of(items, runner.kv_pages.device)


def pages_for(num_tokens: int, first: int = 0) -> list[int]:
    """Consecutive page ids that hold `num_tokens`."""
    return list(range(first, first - (-num_tokens // PAGE_TOKENS)))


def whole(runner: ModelRunner, token_ids: Sequence[int], pages: Sequence[int]) -> Tensor:
    """Logits of the last token, all tokens in one pass: `[vocab]`."""
    return runner.forward(batch_for(runner, (token_ids, 0, pages, True)))[0]


def every_logit(runner: ModelRunner, token_ids: Sequence[int], pages: Sequence[int]) -> Tensor:
    """Logits of all tokens in one pass: `[T, vocab]`."""
    batch = batch_for(runner, (token_ids, 0, pages, True))
    rows = torch.arange(len(token_ids), device=runner.kv_pages.device)
    return runner.forward(dataclasses.replace(batch, logits_rows=rows))


def cache_of(runner: ModelRunner, pages: Sequence[int], num_tokens: int) -> Tensor:
    """What the pages hold of a sequence: `[layers, num_tokens, latent + rope]`."""
    gathered = runner.kv_pages[list(pages)].transpose(0, 1).flatten(1, 2)
    return gathered[:, :num_tokens].clone()


def greedy(runner: ModelRunner, prompt: Sequence[int], pages: Sequence[int], count: int) -> list[int]:
    """The plain loop: one pass over the prompt, then one token at a time, always the likeliest."""
    return generate(runner, prompt, pages, count)[0]


def generate(
    runner: ModelRunner, prompt: Sequence[int], pages: Sequence[int], count: int
) -> tuple[list[int], np.ndarray]:
    """As `greedy`, with the logits `[count, vocab]` of each token."""
    rows = [whole(runner, prompt, pages)]
    for position in range(len(prompt), len(prompt) + count - 1):
        token = int(rows[-1].argmax())
        rows.append(runner.forward(batch_for(runner, ([token], position, pages, True)))[0])
    return [int(row.argmax()) for row in rows], torch.stack(rows).numpy()
