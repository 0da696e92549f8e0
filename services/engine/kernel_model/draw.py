"""Draws tokens on the GPU that holds the logits; only the tokens are copied to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.sampling import SamplingRows, sample
from services.engine.host_copy import to_device
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState

# Seeds are unsigned; the kernel reads the same 64 bits from signed ones.
_HALF, _WHOLE = 1 << 63, 1 << 64


def draw_on_device(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """Draws the next token of each row of float32 `logits [R, V]`, adjusted before if necessary: int64 `[R]`.

    Agrees with `draw_token`, except where the order of additions moves the edge of a draw. Never waits for
    the GPU.
    """
    device = logits.device
    specs = [state.spec for state in states]
    rows = SamplingRows(
        temperature=to_device([spec.temperature for spec in specs], torch.float64, device),
        top_k=to_device([spec.top_k for spec in specs], torch.int32, device),
        top_p=to_device([spec.top_p for spec in specs], torch.float64, device),
        min_p=_least(logits, specs),
        seed=to_device([(state.seed + _HALF) % _WHOLE - _HALF for state in states], torch.int64, device),
        choice=to_device([state.choice for state in states], torch.int64, device),
        position=to_device([len(state.output_ids) for state in states], torch.int64, device),
    )
    return sample(logits, rows)


def _least(logits: Tensor, specs: Sequence[SamplingSpec]) -> Tensor:
    """Each row's limit on how likely a token is, relative to the likeliest: float64 `[R]`."""
    device = logits.device
    min_p = to_device([spec.min_p for spec in specs], torch.float64, device)
    if not any(spec.top_a for spec in specs):
        return min_p
    top_a = to_device([spec.top_a for spec in specs], torch.float64, device)
    temperature = to_device([spec.temperature or 1.0 for spec in specs], torch.float64, device)
    scaled = logits.double() / temperature[:, None]
    likeliest = torch.exp(scaled.amax(dim=-1) - torch.logsumexp(scaled, dim=-1))
    return torch.maximum(min_p, top_a * likeliest)
