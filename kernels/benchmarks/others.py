"""The same work by others' kernels, where they are installed: SGLang's Triton kernels and FlashMLA.

Each is called as its own engine calls it, on the same inputs as ours. Nothing of them is needed here, and
nothing is installed: `missing` says what there is not.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import torch
import triton.language as tl
from torch import Tensor

from kernels.benchmarks.inputs import DecodeInputs, ExpertInputs, PackedExperts

Run: TypeAlias = Callable[[int], tuple[Tensor, ...]]
"""Computes from the copy-th of some sets of inputs, as `Case.run` does."""

PACKAGES = {"sglang": "sglang.kernels", "flash_mla": "flash_mla"}
"""Each with the module that its kernels are in; of SGLang that is its layout since 0.5.23."""

# What SGLang takes for a batch unless it is told otherwise, and what small batches gain from.
_SPLITS = (8, 32)
# Its tiles where no file has some for the device: for few tokens, for many.
_TILES = ((16, 32, 64, 1), (64, 64, 32, 8))
_GROUP = 32


@functools.cache
def missing() -> dict[str, str]:
    """Of each that cannot be compared with, the reason."""
    found = {}
    for package, module in PACKAGES.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - barrier: a broken installation is as good as none
            found[package] = repr(error)
    return found


def describe() -> str:
    """Which are here, of which version, and why the others are not."""
    absent = missing()
    return "; ".join(
        f"{package}: not run: {absent[package]}" if package in absent else f"{package} {_version(package)}"
        for package in PACKAGES
    )


def mla_decode(inputs: DecodeInputs) -> Iterator[tuple[str, Run]]:
    """Whose kernel, and how it is called: `[B, H, latent]`."""
    absent = missing()
    if "sglang" not in absent:
        for splits in _SPLITS:
            yield f"sglang, {splits} splits", _later(partial(_sglang_decode, inputs, splits))
    if "flash_mla" not in absent:
        yield "flash_mla", _later(partial(_flash_mla, inputs))


def int4_experts(
    inputs: ExpertInputs, gate_up: PackedExperts, down: PackedExperts
) -> Iterator[tuple[str, Run]]:
    """Whose kernels, and how they are called: `[T, hidden]`."""
    if "sglang" not in missing():
        for tile in _TILES:
            by = f"sglang, tiles of {'x'.join(map(str, tile[:3]))}"
            yield by, _later(partial(_sglang_experts, inputs, gate_up, down, tile))


def _later(make: Callable[[], Run]) -> Run:
    """Prepares with the first call: what fails then is a note in that row, and costs no other one."""
    made = functools.cache(make)
    return lambda copy: made()(copy)


def _sglang_decode(inputs: DecodeInputs, splits: int) -> Run:
    """Its cache has pages of one token: what it reads of a sequence is a list of rows."""
    attend = importlib.import_module("sglang.kernels.ops.attention.decode_attention").decode_attention_fwd
    batch, heads, width = inputs.query.shape
    device = inputs.query.device
    keys = inputs.pages.view(-1, 1, width)
    within = torch.arange(inputs.tables.shape[2] * 64, device=device) < inputs.context_lens[:, None]
    offsets = torch.arange(64, device=device)
    rows = [(table[:, :, None] * 64 + offsets).view(batch, -1)[within].long() for table in inputs.tables]
    starts = torch.zeros(batch + 1, dtype=torch.int32, device=device)
    starts[1:] = inputs.context_lens.cumsum(0)
    counts = torch.full((batch,), splits, dtype=torch.int32, device=device)
    parts = torch.empty(batch, heads, splits, inputs.latent, dtype=torch.float32, device=device)
    sums = torch.empty(batch, heads, splits, dtype=torch.float32, device=device)
    out = torch.empty(batch, heads, inputs.latent, dtype=torch.bfloat16, device=device)

    def run(copy: int) -> tuple[Tensor, ...]:
        cache = (keys, keys[..., : inputs.latent])
        cut = (parts, sums, counts, splits)
        attend(inputs.query, *cache, out, starts, rows[copy], *cut, inputs.scale, 1.0, 1.0, has_mla=True)
        return (out,)

    return run


def _flash_mla(inputs: DecodeInputs) -> Run:
    flash_mla = importlib.import_module("flash_mla")
    query, pages = inputs.query[:, None], inputs.pages[:, :, None]
    # Older versions plan here, newer ones in the first call.
    plan = flash_mla.get_mla_metadata(inputs.context_lens, query.shape[2], 1)

    def run(copy: int) -> tuple[Tensor, ...]:
        out, _ = flash_mla.flash_mla_with_kvcache(
            query,
            pages,
            inputs.tables[copy],
            inputs.context_lens,
            inputs.latent,
            *plan,
            softmax_scale=inputs.scale,
        )
        return (out[:, 0],)

    return run


def _sglang_experts(
    inputs: ExpertInputs, gate_up: PackedExperts, down: PackedExperts, tile: tuple[int, int, int, int]
) -> Run:
    """Alignment, product, gate, product and sum: all that its Triton way takes, each its own kernel."""
    kernels = importlib.import_module("sglang.kernels.ops.moe.fused_moe_triton_kernels")
    align = importlib.import_module(
        "sglang.srt.layers.moe.moe_runner.triton_utils.moe_align_block_size"
    ).moe_align_block_size
    config = dict(zip(("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M"), tile, strict=True))
    (count, _, width, _), hidden = gate_up.packed.shape, inputs.x.shape[1]
    first, second = _as_bytes(gate_up), _as_bytes(down)
    tokens, top_k = inputs.weights.shape
    gated = inputs.x.new_empty(tokens * top_k, 2 * width)
    inner = inputs.x.new_empty(tokens * top_k, width)
    outer = inputs.x.new_empty(tokens, top_k, hidden)
    out = torch.empty_like(inputs.x)

    def product(
        x: Tensor, matrices: tuple[Tensor, Tensor], to: Tensor, experts: Tensor, *order: Tensor
    ) -> None:
        packed, scales = matrices
        last = to is outer
        kernels.invoke_fused_moe_kernel(
            *(x, packed, None, to, None, scales, None, inputs.weights, experts, *order),
            *(last, 1 if last else top_k, config),
            compute_type=tl.bfloat16,
            use_fp8_w8a8=False,
            use_int8_w8a8=False,
            use_int8_w8a16=False,
            use_int4_w4a16=True,
            per_channel_quant=False,
            block_shape=[0, _GROUP],
        )

    def run(copy: int) -> tuple[Tensor, ...]:
        experts = inputs.experts[copy]
        order = align(experts, config["BLOCK_SIZE_M"], count)
        product(inputs.x, first, gated, experts, *order)
        kernels.act_and_mul_triton(gated, inner, config, experts)
        product(inner, second, outer, experts, *order)
        kernels.moe_sum_reduce_triton(outer, out, 1.0)
        return (out,)

    return run


def _as_bytes(experts: PackedExperts) -> tuple[Tensor, Tensor]:
    """uint8 `[E, out, in / 2]` and scales `[E, out, in / 32]`, parts below one another: the same bits."""
    count, parts, outputs, words = experts.packed.shape
    packed = experts.packed.view(count, parts * outputs, words).view(torch.uint8)
    return packed, experts.scales.view(count, parts * outputs, -1)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(version unknown)"
