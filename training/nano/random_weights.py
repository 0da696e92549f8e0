"""Random weights whose greedy continuations are varied and depend on every token of the prompt."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from services.engine.model.config import ModelConfig
from services.engine.weights.names import text_tensors, vision_tensors

# Small against what the layers add: where the last token's embedding rules, greedy decoding runs in circles.
EMBEDDING_SPREAD = 0.5
# Queries and keys this large make attention pick a few tokens of thousands instead of averaging them away;
# larger ones amplify rounding as well.
ATTENTION_GAIN = 1.5
HEAD_GAIN = 2.0
# Special tokens end or garble a text: all but silenced, not impossible.
SPECIAL_HEAD_GAIN = 0.5
ROUTER_BIAS_SPREAD = 0.05
NORM_SPREAD = 0.1
VISION_BIAS_SPREAD = 0.1


def random_tensors(config: ModelConfig, num_ranks: int, seed: int) -> dict[str, Tensor]:
    """Every tensor of the checkpoint: bf16, the router's bias f32; rows from `num_ranks` on are special
    tokens.

    Each tensor has a stream of its own name, and only exact float operations touch the raw bits, so the same
    bytes come out on every machine.
    """
    shapes = text_tensors(config.text) | vision_tensors(config.vision)
    return {name: _tensor(name, shape, num_ranks, seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], num_ranks: int, seed: int) -> Tensor:
    noise = _unit_noise(name, shape, seed)
    if name.endswith("e_score_correction_bias"):
        return torch.from_numpy(noise * np.float32(ROUTER_BIAS_SPREAD))
    if "norm" in name and name.endswith("weight"):
        values = np.float32(1.0) + noise * np.float32(NORM_SPREAD)
    elif name.endswith("bias"):
        values = noise * np.float32(VISION_BIAS_SPREAD)
    elif "pos_emb" in name or "embed_tokens" in name:
        values = noise * np.float32(EMBEDDING_SPREAD)
    else:
        values = noise * np.float32(_gain(name) / float(np.prod(shape[1:])) ** 0.5)
    if name == "language_model.lm_head.weight":
        values[num_ranks:] *= np.float32(SPECIAL_HEAD_GAIN)
    return torch.from_numpy(values).to(torch.bfloat16)


def _gain(name: str) -> float:
    if "q_b_proj" in name or "kv_a_proj" in name:
        return ATTENTION_GAIN
    if "lm_head" in name:
        return HEAD_GAIN
    return 1.0


def _unit_noise(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Float32, uniform with mean 0 and variance 1: uniform because it needs no logarithm."""
    stream = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    uniform = stream.random(shape, dtype=np.float32)
    return (uniform - np.float32(0.5)) * np.float32(12.0**0.5)
