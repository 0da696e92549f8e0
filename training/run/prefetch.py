"""Batches made ahead, in order, by other processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

from services.common.kimi.tokenizer import Tokenizer
from training.data.batch import Rows
from training.data.stream import Stream, StreamPlan


class _Maker:
    """Lives in a worker process; the tokenizer is read there."""

    stream: Stream

    @classmethod
    def start(cls, plan: StreamPlan, tokenizer: Path) -> None:
        cls.stream = Stream(plan, Tokenizer.from_dir(tokenizer))

    @classmethod
    def make(cls, number: int) -> list[Rows]:
        return cls.stream.batch(number)


def batches(plan: StreamPlan, tokenizer: Path, first: int, end: int, workers: int) -> Iterator[list[Rows]]:
    """Batches `first` to `end` - 1, made by `workers` processes, or here where there are none."""
    if not workers:
        stream = Stream(plan, Tokenizer.from_dir(tokenizer))
        yield from (stream.batch(number) for number in range(first, end))
        return
    context = multiprocessing.get_context("spawn")
    ahead = 4 * workers
    with context.Pool(workers, _Maker.start, (plan, tokenizer)) as pool:
        pending = [pool.apply_async(_Maker.make, (number,)) for number in range(first, min(first + ahead, end))]
        for number in range(first + ahead, end + ahead):
            if not pending:
                return
            made = pending.pop(0).get()
            if number < end:
                pending.append(pool.apply_async(_Maker.make, (number,)))
            yield made
