"""Decode steps as CUDA graphs: one launch instead of a thousand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from services.engine.batch import ForwardBatch
from services.engine.kernel_model.page_table import DevicePageTable
from services.engine.kernel_model.step import Absorbed, Attended, KernelStep
from services.engine.kernel_model.text_model import KernelTextModel

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256)
"""Batch sizes that have a graph; a batch is padded to the next larger one."""


class Recorded(Protocol):
    """A recorded computation; `replay` runs it on the current contents of its input buffers.

    It keeps neither the computation nor the tensors that this used: their owner keeps them.
    """

    def replay(self) -> None: ...


Record = Callable[[Callable[[], None]], Recorded]


class CudaGraph:
    """Records on the current device; runs the computation once before, so that its kernels are compiled."""

    def __init__(self, compute: Callable[[], None]) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            compute()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=_memory_pool()):
            compute()

    def replay(self) -> None:
        """Enqueues the graph."""
        self._graph.replay()


class DecodeGraphs:
    """Runs batches of one token per sequence. Rows that pad a graph have no context and no slot."""

    def __init__(
        self, model: KernelTextModel, kv_pages: Tensor, record: Record = CudaGraph, most_rows: int = SIZES[-1]
    ) -> None:
        self._model = model
        self._kv_pages = kv_pages
        self._record = record
        device = model.device
        self._sizes = (*(size for size in SIZES if size < most_rows), most_rows)
        rows = self._sizes[-1]
        self._table = DevicePageTable(rows, model.table_columns, device)
        self._token_ids, self._positions = (torch.zeros(rows, dtype=torch.int64, device=device) for _ in "ab")
        self._slots = torch.full((rows,), -1, dtype=torch.int64, device=device)
        self._contexts = torch.zeros(rows, dtype=torch.int32, device=device)
        vocab = model.config.vocab_size
        self._logits = torch.empty(rows, vocab, dtype=torch.float32, device=device)
        # A graph knows memory by its address only: what it reads or writes is owned here, or by the model.
        self._mine = torch.arange(model.rank.index, rows, model.rank.count, device=device)
        self._recorded: dict[int, Recorded] = {}

    def takes(self, batch: ForwardBatch) -> bool:
        """Whether the batch is a decode step that the largest graph can hold."""
        return batch.is_decode_step and len(batch.sequences) <= self._sizes[-1]

    def run(self, batch: ForwardBatch) -> Tensor:
        """Logits float32 `[rows, vocab]`, valid until the next run; see KernelTextModel.forward."""
        rows = len(batch.sequences)
        size = next(size for size in self._sizes if size >= rows)
        self._table.update(batch.sequences)
        self._fill(batch, rows, size)
        self._graph(size).replay()
        return self._logits[:rows]

    def prepare(self) -> None:
        """Records all sizes, so that no request waits for it; largest first, so that all share its memory."""
        for size in reversed(self._sizes):
            self._graph(size)

    def _fill(self, batch: ForwardBatch, rows: int, size: int) -> None:
        self._token_ids[:rows] = batch.token_ids
        self._positions[:rows] = batch.positions
        self._slots[:rows] = batch.slot_mapping
        self._contexts[:rows] = batch.positions + 1
        self._slots[rows:size] = -1
        self._contexts[rows:size] = 0
        self._positions[rows:size] = 0
        self._token_ids[rows:size] = 0

    def _graph(self, size: int) -> Recorded:
        if size not in self._recorded:
            mine = self._rows_of_rank(size)

            def compute() -> None:
                step = self._step(size, mine)
                x = self._model.embed(step.token_ids)
                self._logits[:size] = self._model.run(x, step, self._kv_pages)

            self._recorded[size] = self._record(compute)
        return self._recorded[size]

    def _rows_of_rank(self, size: int) -> Tensor | None:
        """Rows that a rank with whole attention attends for, the same in every step; None means all."""
        rank = self._model.rank
        if not rank.attends_for_some:
            return None
        return self._mine[: len(range(rank.index, size, rank.count))]

    def _step(self, size: int, mine: Tensor | None) -> KernelStep:
        """The step over the first `size` rows, read from the buffers when it runs; attends for rows
        `mine`.
        """
        positions, table, contexts = self._positions[:size], self._table.tensor[:size], self._contexts[:size]
        attended = Attended(None, positions, Absorbed(None, table, contexts))
        if mine is not None:
            absorbed = Absorbed(None, table.index_select(0, mine), contexts.index_select(0, mine))
            attended = Attended(mine, positions.index_select(0, mine), absorbed)
        return KernelStep(self._token_ids[:size], positions, self._slots[:size], attended)


@cache
def _memory_pool() -> Any:
    """The memory pool of all graphs: one suffices, because they never run at the same time."""
    return torch.cuda.graph_pool_handle()
