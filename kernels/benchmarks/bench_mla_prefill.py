"""Latent attention for prefill: whole prompts, and chunks after a cached context."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import normal
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.mla_prefill import mla_prefill
from kernels.reference import mla_prefill as reference

_SCALE = 0.1446796258
_NOPE = _VALUE = 128


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Sequences as (new tokens, context): a prompt, the end of a long one, and several together."""
    prompt, longest = sizes.prompt, sizes.contexts[-1]
    chunk = -(-prompt // 4)
    for heads in sizes.heads:
        for sequences in ([(prompt, prompt)], [(chunk, longest)], [(chunk, prompt)] * 2 + [(1, prompt)]):
            yield _case(sequences, heads, sizes, device)
        yield _same_bits(max(chunk - 5, 1), heads, sizes, device)


def _case(sequences: list[tuple[int, int]], heads: int, sizes: Sizes, device: torch.device) -> Case:
    counts, lengths = [count for count, _ in sequences], [max(pair) for pair in sequences]
    query_starts, key_starts = _starts(counts), _starts(lengths)
    tokens, rows = query_starts[-1], key_starts[-1]
    query = normal(tokens, heads, _NOPE + sizes.rope, device=device)
    expanded = normal(rows, heads, _NOPE + _VALUE, device=device)
    key, value = expanded[..., :_NOPE], expanded[..., _NOPE:]
    key_rope = normal(rows, sizes.rope, device=device)
    query_at, key_at, context_lens = (
        torch.tensor(values, dtype=torch.int32, device=device)
        for values in (query_starts, key_starts[:-1], lengths)
    )

    def run(_: int) -> tuple[torch.Tensor, ...]:
        out = mla_prefill(
            query, key, key_rope, value, query_at, key_at, context_lens, _SCALE, max_queries=max(counts)
        )
        return (out,)

    pairs = sum(count * (2 * length - count + 1) // 2 for count, length in zip(counts, lengths, strict=True))

    def expected() -> tuple[torch.Tensor, ...]:
        # A head at a time: all heads' scores would not fit.
        parts = [
            reference.mla_prefill(
                query[:, [head]].float(),
                key[:, [head]],
                key_rope,
                value[:, [head]],
                query_starts,
                key_starts[:-1],
                lengths,
                _SCALE,
            )
            for head in range(heads)
        ]
        return (torch.cat(parts, dim=1),)

    return Case(
        "mla_prefill",
        f"new/context={','.join(f'{count}/{length}' for count, length in sequences)} heads={heads}",
        run,
        expected,
        tolerance=1e-2,
        num_bytes=query.nbytes + expanded.nbytes + key_rope.nbytes + tokens * heads * _VALUE * 2,
        flops=2 * heads * pairs * (_NOPE + sizes.rope + _VALUE),
    )


def _same_bits(chunk: int, heads: int, sizes: Sizes, device: torch.device) -> Case:
    """Compares a prompt's last chunk, which begins inside a tile, with the prompt as a whole."""
    query = normal(sizes.prompt, heads, _NOPE + sizes.rope, device=device)
    expanded = normal(sizes.prompt, heads, _NOPE + _VALUE, device=device)
    key_rope = normal(sizes.prompt, sizes.rope, device=device)

    def attend(count: int) -> torch.Tensor:
        query_at, key_at, context_lens = (
            torch.tensor(values, dtype=torch.int32, device=device)
            for values in ([0, count], [0], [sizes.prompt])
        )
        key, value = expanded[..., :_NOPE], expanded[..., _NOPE:]
        return mla_prefill(
            query[-count:], key, key_rope, value, query_at, key_at, context_lens, _SCALE, max_queries=count
        )

    return Case(
        "mla_prefill",
        f"the same bits in a chunk of {chunk} as in the prompt, heads={heads}",
        lambda _: (attend(sizes.prompt)[-chunk:],),
        lambda: (attend(chunk),),
        tolerance=0.0,
        num_bytes=query.nbytes + expanded.nbytes,
    )


def _starts(counts: list[int]) -> list[int]:
    return [sum(counts[:index]) for index in range(len(counts) + 1)]


if __name__ == "__main__":
    run_script(cases)
