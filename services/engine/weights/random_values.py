"""Random values for a tensor of a given name, such that activations neither vanish nor explode."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from services.engine.weights.expected import StoredTensor

# Small compared with what the layers add: if the last token's embedding prevails, greedy decoding runs in
# circles.
EMBEDDING_SPREAD = 0.5
# Queries and keys this large make attention pick a few tokens of thousands instead of averaging them away;
# larger ones amplify rounding as well.
ATTENTION_GAIN = 1.5
HEAD_GAIN = 2.0
ROUTER_BIAS_SPREAD = 0.05
NORM_SPREAD = 0.1
VISION_BIAS_SPREAD = 0.1
INT4_SPREAD = 4.61
"""Standard deviation of -8 to 7, all equally likely."""


def random_tensor(name: str, stored: StoredTensor, seed: int, weight_shape: tuple[int, ...] = ()) -> Tensor:
    """A tensor in its stored dtype (bf16, f32 or packed int4). `weight_shape` is the shape of the weight that
    a packed tensor is a part of.

    Each tensor has a random stream seeded by its name, and only exact float operations touch the raw bits, so
    the bytes are the same on every machine.
    """
    if name.endswith("weight_shape"):
        return torch.tensor(weight_shape, dtype=torch.int32)
    if name.endswith("weight_packed"):
        words = _stream(name, seed).integers(-(2**31), 2**31, stored.shape, dtype=np.int32)
        return torch.from_numpy(words)
    noise = _unit_noise(name, stored.shape, seed)
    if name.endswith("weight_scale"):
        spread = np.float32(1.0 / (INT4_SPREAD * float(weight_shape[1]) ** 0.5))
        return torch.from_numpy((np.float32(1.0) + noise * np.float32(0.25)) * spread).to(torch.bfloat16)
    if name.endswith("e_score_correction_bias"):
        return torch.from_numpy(noise * np.float32(ROUTER_BIAS_SPREAD))
    return torch.from_numpy(_plain(name, noise)).to(torch.bfloat16)


def _plain(name: str, noise: np.ndarray) -> np.ndarray:
    if "norm" in name and name.endswith("weight"):
        return np.float32(1.0) + noise * np.float32(NORM_SPREAD)
    if name.endswith("bias"):
        return noise * np.float32(VISION_BIAS_SPREAD)
    if "pos_emb" in name or "embed_tokens" in name:
        return noise * np.float32(EMBEDDING_SPREAD)
    return noise * np.float32(_gain(name) / float(np.prod(noise.shape[1:])) ** 0.5)


def _gain(name: str) -> float:
    if "q_b_proj" in name or "kv_a_proj" in name:
        return ATTENTION_GAIN
    if "lm_head" in name:
        return HEAD_GAIN
    return 1.0


def _stream(name: str, seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))


def _unit_noise(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Float32, uniform with mean 0 and variance 1: uniform because it needs no logarithm."""
    uniform = _stream(name, seed).random(shape, dtype=np.float32)
    return (uniform - np.float32(0.5)) * np.float32(12.0**0.5)
