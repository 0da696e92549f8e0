"""Routed experts' weights in the order in which the kernel reads them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.launch import require

TILE = 64
"""Rows, and inputs, of one tile of weights."""

GROUP = 32
"""Inputs of a row that share a scale."""


@dataclass(frozen=True)
class ExpertMatrices:
    """One matrix, or two with the same inputs, for each of E experts.

    int4: `values` uint8 `[E, parts, out / 64, in / 64, 64, 32]`, `scales` bf16 `[E, parts, out / 64, in / 32,
    64]`. A tile of 64 rows and 64 inputs is 2 KiB of contiguous memory, and so are the tiles along a row.
    Byte j of a tile's row has input j in its low nibble and input 32 + j in its high nibble, each plus 8; so
    each half belongs to one group.

    Plain: `values` `[E, parts, out, in]`, no scales.
    """

    values: Tensor
    scales: Tensor | None

    @property
    def parts(self) -> int:
        """Number of matrices per expert."""
        return self.values.shape[1]

    @property
    def outputs(self) -> int:
        """Rows of a matrix."""
        return self.values.shape[2] * (1 if self.scales is None else TILE)

    @property
    def inputs(self) -> int:
        """Columns of a matrix."""
        return self.values.shape[3] * (1 if self.scales is None else TILE)

    @classmethod
    def plain(cls, weights: Tensor) -> ExpertMatrices:
        """Takes plain weights `[E, parts, out, in]`."""
        _check_size(*weights.shape[2:])
        return cls(weights.contiguous(), None)

    @classmethod
    def int4(cls, packed: Tensor, scales: Tensor) -> ExpertMatrices:
        """Converts the published format: int32 `[E, parts, out, in / 8]`, lowest nibble first, and scales
        `[E, parts, out, in / 32]`.
        """
        experts, parts, outputs, words = packed.shape
        _check_size(outputs, 8 * words)
        groups = 8 * words // GROUP
        fits = scales.shape == (experts, parts, outputs, groups)
        require(
            fits, f"scales {tuple(scales.shape)} do not fit {groups} groups of packed {tuple(packed.shape)}"
        )
        values = torch.empty(
            experts, parts, outputs // TILE, groups // 2, TILE, GROUP, dtype=torch.uint8, device=packed.device
        )
        for expert in range(experts):  # one at a time: little memory is needed beside the result
            values[expert] = _tile(packed[expert])
        tiled = scales.view(experts, parts, outputs // TILE, TILE, groups).transpose(3, 4)
        return cls(values, tiled.contiguous())


def _tile(packed: Tensor) -> Tensor:
    """int32 `[parts, out, in / 8]` -> uint8 `[parts, out / 64, in / 64, 64, 32]`."""
    parts, outputs, words = packed.shape
    octets = packed.contiguous().view(torch.uint8)
    nibbles = torch.stack([octets & 15, octets >> 4], dim=-1)
    halves = nibbles.view(parts, outputs // TILE, TILE, 8 * words // TILE, 2, GROUP)
    return (halves[..., 0, :] | (halves[..., 1, :] << 4)).transpose(2, 3)


def _check_size(outputs: int, inputs: int) -> None:
    require(
        outputs % TILE == 0 and inputs % TILE == 0,
        f"an expert's matrix of {outputs} x {inputs} is not made of tiles of {TILE} x {TILE}",
    )
