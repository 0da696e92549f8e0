"""Prepares batches ahead of time, in order, in other processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from services.families.kimi.tokenizer import KimiTokenizer
from training.data.batch import Rows
from training.data.picture import Picture
from training.data.stream import Stream, StreamPlan

_TENSORS = ("token_ids", "positions", "documents", "targets", "is_picture")


def batches(plan: StreamPlan, tokenizer: Path, first: int, end: int, workers: int) -> Generator[list[Rows]]:
    """Yields batches `first` to `end` - 1, made by `workers` processes, or by this process if
    `workers` is 0. Each process is a batch or two ahead.
    """
    if not workers:
        stream = Stream(plan, KimiTokenizer.from_dir(tokenizer))
        yield from (stream.batch(number) for number in range(first, end))
        return
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for index in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            numbers = range(first + index, end, workers)
            process = context.Process(target=_make, args=(theirs, plan, tokenizer, numbers), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        for number in range(first, end):
            yield from_bytes(pipes[(number - first) % workers].recv_bytes())
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.terminate()
            process.join()


def to_bytes(batch: Sequence[Rows]) -> bytes:
    """The batch in the form of safetensors."""
    tensors: dict[str, Tensor] = {}
    for row, rows in enumerate(batch):
        tensors |= {
            f"{row}.{name}": getattr(rows, name).clone(memory_format=torch.contiguous_format)
            for name in _TENSORS
        }
        for index, picture in enumerate(rows.pictures):
            place = f"{row}.pictures.{index}"
            tensors[f"{place}.levels"] = picture.levels.clone(memory_format=torch.contiguous_format)
            tensors[f"{place}.grid"] = torch.tensor([picture.rows, picture.columns])
    return save(tensors)


def from_bytes(data: bytes) -> list[Rows]:
    """The batch that `to_bytes` turned into `data`."""
    tensors = load(data)
    batch: list[Rows] = []
    while f"{len(batch)}.token_ids" in tensors:
        row, pictures = len(batch), list[Picture]()
        while (levels := tensors.get(f"{row}.pictures.{len(pictures)}.levels")) is not None:
            height, width = tensors[f"{row}.pictures.{len(pictures)}.grid"].tolist()
            pictures.append(Picture(levels, height, width))
        of_row = {name: tensors[f"{row}.{name}"] for name in _TENSORS}
        batch.append(Rows(**of_row, pictures=tuple(pictures)))
    return batch


def _make(pipe: Connection, plan: StreamPlan, tokenizer: Path, numbers: range) -> None:
    """Makes these batches until nobody takes them any more."""
    torch.set_num_threads(1)
    stream = Stream(plan, KimiTokenizer.from_dir(tokenizer))
    with suppress(BrokenPipeError):
        for number in numbers:
            pipe.send_bytes(to_bytes(stream.batch(number)))
