"""Every kernel at the shapes of Kimi-K2.5 on eight GPUs: sharded within layers (tp8), and experts and
sequences divided between the ranks (ep8).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.expert_weights import GROUP, TILE, ExpertMatrices
from kernels.experts import RoutedExperts
from kernels.latent_store import store_latents
from kernels.mla_decode import MLADecode
from kernels.mla_prefill import mla_prefill
from kernels.page_copy import gather_pages, scatter_pages
from kernels.rms_norm import add_rms_norm, rms_norm
from kernels.rope import rotate
from kernels.router import select_experts
from kernels.sampling import SamplingRows, draw_uniform, sample
from kernels.silu_mul import silu_mul

HIDDEN, VOCABULARY, QUERY_LATENT = 7168, 163840, 1536
HEADS, LATENT, NOPE, ROPE, VALUE = 64, 512, 128, 64, 128
EXPERTS, TOP_K, EXPERT_WIDTH, DENSE_WIDTH = 384, 8, 2048, 18432
LAYERS, PAGE_TOKENS, GPUS = 61, 64, 8
_PAGES, _TABLE, _ROWS, _CONTEXT = 64, 32, 64, 32768
_ROUTED_SCALE, _EPS = 2.827, 1e-5
# The average of an expert: one for each number of pairs in a block.
_PAIRS = (16, 32, 64)
# Beside all heads of a rank: as many at a time as their expanded keys allow, for long contexts.
_FEWER_HEADS = (4, 16, 32)


@dataclass(frozen=True)
class Case:
    """A call of the engine's. `name` says which shapes."""

    name: str
    call: Callable[[], object]


def cases() -> Iterator[Case]:
    """All cases. Their tensors are on the device "meta": call them under `record`."""
    for layout, owned, width in (
        ("tp8", EXPERTS, EXPERT_WIDTH // GPUS),
        ("ep8", EXPERTS // GPUS, EXPERT_WIDTH),
    ):
        for pairs in _PAIRS:
            tokens = pairs * owned // TOP_K
            yield Case(f"experts {layout}, {tokens} tokens", _experts(owned, width, tokens, quantised=True))
        yield Case(f"experts {layout}, plain", _experts(owned, width, tokens, quantised=False))
    for layout, heads in (("tp8", HEADS // GPUS), ("ep8", HEADS)):
        for deterministic in (False, True):
            mode = " deterministic" if deterministic else ""
            yield Case(f"decode attention {layout}{mode}", _decode_attention(heads, deterministic))
        yield Case(f"prefill attention {layout}", _prefill_attention(heads))
        yield Case(f"rotate {layout}", _rotate(heads))
    for heads in _FEWER_HEADS:
        yield Case(f"prefill attention, {heads} heads at a time", _prefill_attention(heads))
    yield Case("norms of hidden rows", lambda: add_rms_norm(_rows(HIDDEN), _rows(HIDDEN), _rows()[0], _EPS))
    yield Case("norm of query rows", lambda: rms_norm(_rows(QUERY_LATENT), _rows(QUERY_LATENT)[0], _EPS))
    yield Case("norm of hidden rows", lambda: rms_norm(_rows(HIDDEN), _rows(HIDDEN)[0], _EPS))
    yield Case("store of latents", _store_latents)
    yield Case("router", _router)
    for name, width in (("shared expert", EXPERT_WIDTH), ("dense layer", DENSE_WIDTH)):
        yield Case(f"SwiGLU of the {name}", functools.partial(_swiglu, width // GPUS))
    yield Case("pages to rows", lambda: gather_pages(_pages(), _integers(_TABLE), 0, 1))
    yield Case("rows to pages", _scatter)
    yield Case("draw", _draw)


def _empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _rows(width: int = HIDDEN) -> Tensor:
    return _empty(_ROWS, width)


def _integers(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
    return _empty(*shape, dtype=dtype)


def _pages() -> Tensor:
    return _empty(_PAGES, LAYERS, PAGE_TOKENS, LATENT + ROPE)


def _angles() -> Tensor:
    return _empty(_CONTEXT, ROPE // 2, dtype=torch.float32)


def _matrices(experts: int, parts: int, outputs: int, inputs: int, *, quantised: bool) -> ExpertMatrices:
    if not quantised:
        return ExpertMatrices(_empty(experts, parts, outputs, inputs), None)
    tiles = experts, parts, outputs // TILE
    values = _empty(*tiles, inputs // TILE, TILE, GROUP, dtype=torch.uint8)
    return ExpertMatrices(values, _empty(*tiles, inputs // GROUP, TILE))


def _experts(owned: int, width: int, tokens: int, *, quantised: bool) -> Callable[[], object]:
    def call() -> object:
        gate_up = _matrices(owned, 2, width, HIDDEN, quantised=quantised)
        down = _matrices(owned, 1, HIDDEN, width, quantised=quantised)
        routed = RoutedExperts(gate_up, down, deterministic=False)
        weights = _empty(tokens, TOP_K, dtype=torch.float32)
        return routed(_empty(tokens, HIDDEN), _integers(tokens, TOP_K), weights, _empty(tokens, HIDDEN))

    return call


def _decode_attention(heads: int, deterministic: bool) -> Callable[[], object]:
    def call() -> object:
        attend = MLADecode(LATENT, ROPE, 0.1, 64, deterministic)
        tables = _integers(_ROWS, _TABLE)
        return attend(_empty(_ROWS, heads, LATENT + ROPE), _pages()[:, 1], tables, _integers(_ROWS))

    return call


def _prefill_attention(heads: int) -> Callable[[], object]:
    def call() -> object:
        expanded = _empty(_CONTEXT, heads, NOPE + VALUE)
        key, value = expanded[..., :NOPE], expanded[..., NOPE:]
        key_rope = _empty(_CONTEXT, LATENT + ROPE)[:, LATENT:]
        starts = _integers(2), _integers(1), _integers(1)
        query = _empty(_CONTEXT, heads, NOPE + ROPE)
        return mla_prefill(query, key, key_rope, value, *starts, 0.1, _CONTEXT)

    return call


def _rotate(heads: int) -> Callable[[], object]:
    def call() -> None:
        query = _empty(_ROWS, heads, NOPE + ROPE)[..., NOPE:]
        positions = _integers(_ROWS, dtype=torch.int64)
        rotate(query, positions, _angles(), _angles(), _empty(_ROWS, heads, LATENT + ROPE)[..., LATENT:])

    return call


def _store_latents() -> None:
    positions, slots = (_integers(_ROWS, dtype=torch.int64) for _ in range(2))
    down = _rows(QUERY_LATENT + LATENT + ROPE)[:, QUERY_LATENT:]
    store_latents(down, _empty(LATENT), _EPS, positions, slots, _angles(), _angles(), _pages()[:, 1])


def _router() -> object:
    logits = _empty(_ROWS, EXPERTS, dtype=torch.float32)
    return select_experts(logits, logits[0], TOP_K, _ROUTED_SCALE)


def _swiglu(width: int) -> object:
    return silu_mul(_rows(2 * width))


def _scatter() -> None:
    scatter_pages(_empty(_TABLE, 1, PAGE_TOKENS, LATENT + ROPE), _pages(), _integers(_TABLE), 0)


def _draw() -> object:
    doubles = [_empty(_ROWS, dtype=torch.float64) for _ in range(3)]
    longs = [_integers(_ROWS, dtype=torch.int64) for _ in range(3)]
    temperature, top_p, min_p = doubles
    draw_uniform(*longs)
    rows = SamplingRows(temperature, _integers(_ROWS), top_p, min_p, *longs)
    return sample(_empty(_ROWS, VOCABULARY, dtype=torch.float32), rows)
