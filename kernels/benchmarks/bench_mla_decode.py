"""Latent attention for decode: batches, contexts, and heads on one GPU or split over eight."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch

from kernels.benchmarks import others
from kernels.benchmarks.case import Case
from kernels.benchmarks.inputs import DecodeInputs, normal
from kernels.benchmarks.run import Run
from kernels.benchmarks.script import run_script
from kernels.benchmarks.sizes import Sizes
from kernels.mla_decode import MOST_SPLITS, MLADecode
from kernels.reference import mla_decode as reference

_SCALE = 0.1446796258
_SPLIT_TOKENS = 512


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Sequences that are all as long as the context, and once sequences of different lengths."""
    for heads in sizes.heads:
        for context in sizes.contexts:
            for batch in sizes.batches:
                yield from _cases([context] * batch, heads, sizes, device)
        count = min(max(sizes.batches), 16)
        uneven = [max(sizes.contexts[-1] * (index + 1) // count, 1) for index in range(count)]
        yield from _cases(uneven, heads, sizes, device)
        yield _same_bits(uneven, heads, sizes, device)


def _cases(lengths: list[int], heads: int, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Our kernel in both modes and others' kernels, on the same inputs."""
    batch, total, most = len(lengths), sum(lengths), max(lengths)
    columns = -(-most // 64)
    num_bytes = (total + 2 * batch * heads) * sizes.width * 2
    copies = sizes.copies(num_bytes)
    pages = normal(copies * batch * columns, 64, sizes.width, device=device)
    order = torch.randperm(len(pages), device=device).to(torch.int32)
    tables = order.view(copies, batch, columns)
    # Scores with the spread of a model's: a softmax that picks one key would hide every difference.
    query = normal(batch, heads, sizes.width, device=device) * 0.3
    context_lens = torch.tensor(lengths, dtype=torch.int32, device=device)
    inputs = DecodeInputs(query, pages, tables, context_lens, _SCALE, sizes.latent)
    name = f"{most}" if len(set(lengths)) == 1 else f"{min(lengths)}..{most}"
    shape = f"B={batch} context={name} heads={heads}"

    @cache
    def expected() -> tuple[torch.Tensor, ...]:
        return (reference.mla_decode(query.float(), pages, tables[0], context_lens, _SCALE, sizes.latent),)

    def case(mode: str, run: Run, by: str = "") -> Case:
        return Case(
            "mla_decode",
            f"{shape} {mode}",
            run,
            expected,
            tolerance=1e-2,
            num_bytes=num_bytes,
            flops=2 * heads * total * (sizes.width + sizes.latent),
            copies=copies,
            by=by,
        )

    fixed = -(-most // _SPLIT_TOKENS)
    yield case("deterministic", _ours(inputs, sizes, fixed, deterministic=True))
    yield case("fast", _ours(inputs, sizes, MOST_SPLITS, deterministic=False))
    for by, run in others.mla_decode(inputs):
        yield case("fast", run, by)


def _ours(inputs: DecodeInputs, sizes: Sizes, splits: int, deterministic: bool) -> Run:
    attend = MLADecode(sizes.latent, sizes.rope, _SCALE, splits, deterministic, _SPLIT_TOKENS)
    return lambda copy: (attend(inputs.query, inputs.pages, inputs.tables[copy], inputs.context_lens),)


def _same_bits(lengths: list[int], heads: int, sizes: Sizes, device: torch.device) -> Case:
    """Compares the first sequence of a batch in deterministic mode with its run alone."""
    batch, columns = len(lengths), -(-max(lengths) // 64)
    pages = normal(batch * columns, 64, sizes.width, device=device)
    table = torch.randperm(len(pages), device=device).to(torch.int32).view(batch, columns)
    query = normal(batch, heads, sizes.width, device=device) * 0.3
    context_lens = torch.tensor(lengths, dtype=torch.int32, device=device)
    splits = -(-max(lengths) // _SPLIT_TOKENS)
    attend = MLADecode(sizes.latent, sizes.rope, _SCALE, splits, True, _SPLIT_TOKENS)
    return Case(
        "mla_decode",
        f"the same bits in B={batch} as alone, heads={heads}",
        lambda _: (attend(query, pages, table, context_lens)[:1],),
        lambda: (attend(query[:1], pages, table[:1], context_lens[:1]),),
        tolerance=0.0,
        num_bytes=sum(lengths) * sizes.width * 2,
    )


if __name__ == "__main__":
    run_script(cases)
