"""The cache entry of a token: its normalised latent and its rotated rope key."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.reference.rms_norm import rms_norm
from kernels.reference.rope import rotate


def store_latents(
    down: Tensor,
    weight: Tensor,
    eps: float,
    positions: Tensor,
    slots: Tensor,
    cos: Tensor,
    sin: Tensor,
    pages: Tensor,
) -> None:
    """Writes `down [T, latent + rope]` into `pages [P, 64, latent + rope]`, one layer's, at `slots [T]`.

    Slot s is token s % 64 of page s // 64; a negative one is skipped.
    """
    latent = rms_norm(down[:, : len(weight)], weight, eps)
    key = rotate(down[:, None, len(weight) :], positions, cos, sin)[:, 0]
    entries = torch.cat([latent, key], dim=-1).to(pages.dtype)
    kept = slots >= 0
    page_tokens = pages.shape[1]
    pages[slots[kept] // page_tokens, slots[kept] % page_tokens] = entries[kept]
