"""The published int4 format: eight values of a row in one int32, one scale for each 32 of them.

Value 8j + i of a row is in bits 4i to 4i + 3 of word j, lowest nibble first, stored plus 8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from services.engine.model.config.quantization import GROUP_SIZE

_OFFSET = 8
_BLOCK_VALUES = 1 << 20


def pack(values: Tensor) -> Tensor:
    """Integers -8 to 7 `[out, in]` -> int32 `[out, in / 8]`."""
    nibbles = (values + _OFFSET).to(torch.uint8)
    return (nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)).contiguous().view(torch.int32)


def unpack(packed: Tensor) -> Tensor:
    """int32 `[out, in / 8]` -> int8 `[out, in]`, -8 to 7."""
    pairs = packed.contiguous().view(torch.uint8)
    nibbles = torch.stack([pairs & 15, pairs >> 4], dim=-1).flatten(1)
    return nibbles.to(torch.int8) - _OFFSET


def dequantise(packed: Tensor, scale: Tensor, result: Tensor) -> Tensor:
    """Fills `result [out, in]`: value times scale `[out, in / 32]` in float32, rounded once to its dtype.

    Works on some rows at a time, so that it needs little memory beside the result.
    """
    rows, words = packed.shape
    step = max(1, _BLOCK_VALUES // (8 * words))
    for start in range(0, rows, step):
        block = slice(start, start + step)
        values = unpack(packed[block]).float().view(-1, 8 * words // GROUP_SIZE, GROUP_SIZE)
        result[block] = (values * scale[block].float().unsqueeze(-1)).flatten(1)
    return result
