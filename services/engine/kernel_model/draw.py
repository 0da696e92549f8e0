"""Draws tokens on the GPU that holds the logits; only the tokens are copied to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.sampling import SamplingRows, sample
from services.engine.host_copy import to_device
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
        min_p=to_device([spec.min_p for spec in specs], torch.float64, device),
        seed=to_device([(state.seed + _HALF) % _WHOLE - _HALF for state in states], torch.int64, device),
        choice=to_device([state.choice for state in states], torch.int64, device),
        position=to_device([len(state.output_ids) for state in states], torch.int64, device),
    )
    return sample(logits, rows)
