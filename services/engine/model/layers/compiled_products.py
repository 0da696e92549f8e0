"""Products, gated MLPs and routed experts by compiled loops: services/engine/native/products.c."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import torch
from torch import Tensor

from services.engine.model.layers.router import Select
from services.engine.model.layers.row_product import FixedProduct, rows_are_stable
from services.engine.native.library import address, library

PANEL = 16
"""Outputs computed together."""
_PROBED = ((96, 40), (300, 24))
_PROBE_ROWS = 1040


class CompiledProducts:
    """Products for float32 on a CPU. Adds up each result input by input, so rows keep their bits in any
    batch.
    """

    deterministic = True

    def __init__(self, loops: ctypes.CDLL) -> None:
        self._loops = loops
        for name in ("perigee_product", "perigee_mlp", "perigee_experts"):
            getattr(loops, name).restype = None if name == "perigee_product" else ctypes.c_int

    @classmethod
    def available(cls, device: torch.device, dtype: torch.dtype) -> CompiledProducts | None:
        """None on a GPU, for another dtype, if nothing can be compiled, and if a trial shows that a row's
        bits depend on its neighbours.
        """
        loops = library() if device.type == "cpu" and dtype == torch.float32 else None
        if loops is None:
            return None
        products = cls(loops)
        return products if products._keeps_rows() else None

    def with_weight(self, weight: Tensor) -> FixedProduct:
        """The product with `weight [..., K, N]`; keeps a copy of it in another layout."""
        if weight.dtype != torch.float32:
            raise ValueError(f"the weight is {weight.dtype}, not float32")
        return PackedWeight(self._loops, weight)

    def gated_mlp(self, gate: Tensor, up: Tensor, down: Tensor) -> CompiledMLP:
        """down(silu(gate x) * up x); weights as published, `[out, in]`."""
        return CompiledMLP(self._loops, gate, up, down)

    def experts(self, weights: Iterable[tuple[Tensor, Tensor, Tensor]], count: int) -> CompiledExperts:
        """Compiles `count` experts from their (gate, up, down), which are taken one after the other."""
        return CompiledExperts(self._loops, weights, count)

    def _keeps_rows(self) -> bool:
        generator = torch.Generator().manual_seed(4)
        return all(
            rows_are_stable(
                self.with_weight(torch.randn(inputs, outputs, generator=generator)),
                torch.randn(_PROBE_ROWS, inputs, generator=generator),
            )
            for inputs, outputs in _PROBED
        )


class PackedWeight:
    """A product with one weight, or with a batch of them."""

    def __init__(self, loops: ctypes.CDLL, weight: Tensor) -> None:
        self._multiply = loops.perigee_product
        self.packed = pack(weight)
        self._outputs = weight.shape[-1]
        self._batched = weight.ndim == 3

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """`[M, K]` -> `[M, N]`, or `[B, M, K]` -> `[B, M, N]`.

        Writes into `out` of this shape, whose rows may lie apart, or into a new tensor in which the rows of
        one m lie side by side.
        """
        whole = x if self._batched else x.unsqueeze(0)
        if whole.dtype != torch.float32 or whole.stride(-1) != 1:
            whole = whole.float().contiguous()
        batch, rows, inputs = whole.shape
        if inputs != self.packed.shape[-2]:
            raise ValueError(f"rows of {inputs} values for a weight of {self.packed.shape[-2]} inputs")
        if out is None:
            out = torch.empty(rows, batch, self._outputs).transpose(0, 1)
            out = out if self._batched else out.squeeze(0)
        self._multiply(
            address(out),
            ctypes.c_int64(out.stride(0) if self._batched else 0),
            ctypes.c_int64(out.stride(-2)),
            address(whole),
            ctypes.c_int64(whole.stride(0)),
            ctypes.c_int64(whole.stride(1)),
            address(self.packed),
            batch,
            rows,
            inputs,
            self._outputs,
            torch.get_num_threads(),
        )
        return out


class CompiledMLP:
    """down(silu(gate x) * up x)."""

    def __init__(self, loops: ctypes.CDLL, gate: Tensor, up: Tensor, down: Tensor) -> None:
        self._apply = loops.perigee_mlp
        self.gate_up, self.down = _pack_mlp(gate, up, down)
        self.width = -(-len(gate) // PANEL) * PANEL

    def __call__(self, x: Tensor) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        x = x.contiguous()
        out = torch.empty_like(x)
        rows, hidden = x.shape
        parts = map(address, (out, x, self.gate_up, self.down))
        if not self._apply(*parts, rows, hidden, self.width, torch.get_num_threads()):
            raise MemoryError(f"no memory for a gated MLP on {rows} rows")
        return out


class CompiledExperts:
    """All routed experts of a layer."""

    def __init__(
        self, loops: ctypes.CDLL, weights: Iterable[tuple[Tensor, Tensor, Tensor]], count: int
    ) -> None:
        self._apply = loops.perigee_experts
        self.gate_up = self.down = torch.empty(0)
        for index, expert in enumerate(weights):
            gate_up, down = _pack_mlp(*expert)
            if not index:
                self.gate_up, self.down = (part.new_empty(count, *part.shape) for part in (gate_up, down))
            self.gate_up[index], self.down[index] = gate_up, down
        self.width = self.down.shape[-2]

    def add(self, out: Tensor, x: Tensor, chosen: Tensor, weights: Tensor) -> None:
        """`out [T, hidden]` += sum_k w_k expert_k(x), in the order of `chosen [T, k]`, without those of -1;
        `weights [T, k]`.
        """
        x, experts, weights = x.contiguous(), chosen.to(torch.int32).contiguous(), weights.contiguous()
        parts = map(address, (out, x, experts, weights, self.gate_up, self.down))
        rows, hidden = x.shape
        sizes = (rows, chosen.shape[1], len(self.down), hidden, self.width, torch.get_num_threads())
        if not self._apply(*parts, *sizes):
            raise MemoryError(f"no memory for experts on {rows} rows")


class CompiledMixture:
    """sum_k w_k expert_k(x) plus shared(x)."""

    def __init__(self, router: Select, experts: CompiledExperts, shared: CompiledMLP) -> None:
        self.router = router
        self.experts = experts
        self.shared = shared

    def __call__(self, x: Tensor) -> Tensor:
        """`[T, hidden]` -> `[T, hidden]`."""
        out = self.shared(x)
        self.experts.add(out, x, *self.router(x))
        return out


def pack(weight: Tensor) -> Tensor:
    """`[..., K, N]` -> `[..., panels, K, PANEL]`, the last panel padded with zeros."""
    *batch, inputs, outputs = weight.shape
    panels = -(-outputs // PANEL)
    padded = torch.nn.functional.pad(weight, (0, panels * PANEL - outputs))
    return padded.view(*batch, inputs, panels, PANEL).transpose(-3, -2).contiguous()


def _pack_mlp(gate: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Panels of gate and up `[panels, hidden, PANEL]` and of down; the width is padded to whole panels."""
    missing = -len(gate) % PANEL
    gate, up = (torch.nn.functional.pad(part, (0, 0, 0, missing)) for part in (gate, up))
    return pack(torch.cat([gate, up]).t()), pack(torch.nn.functional.pad(down, (0, missing)).t())
