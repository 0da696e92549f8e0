"""Prepares batches ahead of time, in order, in other processes."""

from __future__ import annotations

import multiprocessing
import pickle
from collections import deque
from collections.abc import Generator
from itertools import islice
from pathlib import Path

import torch

from services.families.kimi.tokenizer import KimiTokenizer
from training.data.batch import Rows
from training.data.stream import Stream, StreamPlan

AHEAD = 2
"""Batches requested ahead per worker."""


class _Maker:
    """State of a worker process, which reads the tokenizer once."""

    stream: Stream

    @classmethod
    def start(cls, plan: StreamPlan, tokenizer: Path) -> None:
        torch.set_num_threads(1)
        cls.stream = Stream(plan, KimiTokenizer.from_dir(tokenizer))

    @classmethod
    def make(cls, number: int) -> bytes:
        """Makes a batch. It is pickled here: a pool would send each tensor as an open file, and a batch has
        hundreds.
        """
        return pickle.dumps(cls.stream.batch(number))


def batches(plan: StreamPlan, tokenizer: Path, first: int, end: int, workers: int) -> Generator[list[Rows]]:
    """Yields batches `first` to `end` - 1, made by `workers` processes, or by this process if
    `workers` is 0.
    """
    if not workers:
        stream = Stream(plan, KimiTokenizer.from_dir(tokenizer))
        yield from (stream.batch(number) for number in range(first, end))
        return
    with multiprocessing.get_context("spawn").Pool(workers, _Maker.start, (plan, tokenizer)) as pool:
        asked = (pool.apply_async(_Maker.make, (number,)) for number in range(first, end))
        pending = deque(islice(asked, AHEAD * workers))
        while pending:
            made = pending.popleft().get()
            pending.extend(islice(asked, 1))
            yield pickle.loads(made)
