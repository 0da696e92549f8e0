"""Times decode steps and prefill of the slice, beside the least that they could take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.random_weights import RandomWeights
from benchmarks.slice_logits import Record, random_pages
from benchmarks.slice_row import Cases, Row
from benchmarks.slice_sizes import Limits, Sizes
from services.engine.batch import PAGE_TOKENS, BatchBuilder, ForwardBatch
from services.engine.kernel_model.decode_graphs import DecodeGraphs
from services.engine.kernel_model.text_model import KernelTextModel
from services.engine.model.attention.page_views import PageViews

CHUNK = 8192
_REPLAYS = 20


class SliceTimes:
    """The slice with all its experts, in fast mode."""

    def __init__(self, sizes: Sizes, device: torch.device, record: Record, limits: Limits) -> None:
        self._sizes = sizes
        self._device = device
        self._record = record
        self._limits = limits

    def cases(self) -> Cases:
        """Decode steps of all batches and contexts, then prompts."""
        sizes = self._sizes
        weights = RandomWeights(sizes.config, self._device, sizes.dtype)
        model = KernelTextModel(sizes.config, weights, deterministic=False)
        for context in sizes.contexts:
            for batch in sizes.batches:
                yield f"decode B={batch} context={context}", partial(self._decode, model, batch, context)
        for prompt in sizes.prompts:
            yield f"prefill {prompt} in chunks of {CHUNK}", partial(self._prefill, model, prompt)

    def _decode(self, model: KernelTextModel, batch: int, context: int, row: Row) -> None:
        """Times one step of `batch` sequences with contexts of that length, as a CUDA graph."""
        each = -(-context // PAGE_TOKENS)
        pages = random_pages(model.config, batch * each, self._sizes.dtype, self._device)
        order = torch.randperm(batch * each).view(batch, each).tolist()
        graphs = DecodeGraphs(model, pages, self._record, most_rows=batch)
        builder = BatchBuilder()
        for index in range(batch):
            builder.add([5 + index % 50], context - 1, order[index], wants_logits=True)
        built = builder.build(self._device)
        graphs.run(built)
        gpu, host = _times(lambda: graphs.run(built), self._device)
        row.time(gpu, host, self._limits.decode(batch, context), batch)

    def _prefill(self, model: KernelTextModel, prompt: int, row: Row) -> None:
        """Times a prompt in chunks."""
        each = -(-prompt // PAGE_TOKENS)
        pages = random_pages(model.config, each, self._sizes.dtype, self._device)
        views = PageViews(pages, model.config.kv_lora_rank)
        batches: list[ForwardBatch] = []
        for start in range(0, prompt, CHUNK):
            tokens = [5 + place % 50 for place in range(start, min(start + CHUNK, prompt))]
            builder = BatchBuilder()
            builder.add(tokens, start, list(range(each)), wants_logits=True)
            batches.append(builder.build(self._device))

        def run() -> None:
            for batch in batches:
                model.forward(batch, pages, views)

        run()
        gpu, host = _times(run, self._device, repeats=3)
        row.time(gpu, host, self._limits.prefill(prompt), prompt)


def _times(run: Callable[[], object], device: torch.device, repeats: int = _REPLAYS) -> tuple[float, float]:
    """Seconds on the device, and seconds for the host to enqueue it, each in the median."""
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return (time.perf_counter() - began,) * 2
    gpu, host = [], []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        began = time.perf_counter()
        start.record()
        run()
        end.record()
        host.append(time.perf_counter() - began)
        torch.cuda.synchronize()
        gpu.append(start.elapsed_time(end) / 1e3)
    return statistics.median(gpu), statistics.median(host)
