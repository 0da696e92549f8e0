"""Times decode steps and prefill of the slice, beside the least that they could take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

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

    def __init__(
        self,
        sizes: Sizes,
        device: torch.device,
        record: Record,
        limits: Limits,
        trace: Path | None = None,
    ) -> None:
        """`trace`: where a profiler's trace goes."""
        self._trace = trace
        self._sizes = sizes
        self._device = device
        self._record = record
        self._limits = limits

    def cases(self) -> Cases:
        """The shortest context's decode steps, the shortest prompt and a trace of both, then the others."""
        sizes = self._sizes
        weights = RandomWeights(sizes.config, self._device, sizes.dtype)
        model = KernelTextModel(sizes.config, weights, deterministic=False)
        yield from self._decodes(model, sizes.contexts[:1])
        yield from self._prefills(model, sizes.prompts[:1])
        if self._trace is not None:
            yield f"trace in {self._trace.name}", partial(self._profile, model, self._trace)
        yield from self._decodes(model, sizes.contexts[1:])
        yield from self._prefills(model, sizes.prompts[1:])

    def _decodes(self, model: KernelTextModel, contexts: Sequence[int]) -> Cases:
        for context in contexts:
            for batch in self._sizes.batches:
                yield f"decode B={batch} context={context}", partial(self._decode, model, batch, context)

    def _prefills(self, model: KernelTextModel, prompts: Sequence[int]) -> Cases:
        for prompt in prompts:
            yield f"prefill {prompt} in chunks of {CHUNK}", partial(self._prefill, model, prompt)

    def _decode(self, model: KernelTextModel, batch: int, context: int, row: Row) -> None:
        """Times one step of `batch` sequences with contexts of that length, as a CUDA graph."""
        run = self._step(model, batch, context)
        gpu, host = _times(run, self._device)
        row.time(gpu, host, self._limits.decode(batch, context), batch)

    def _prefill(self, model: KernelTextModel, prompt: int, row: Row) -> None:
        """Times a prompt in chunks."""
        gpu, host = _times(self._chunks(model, prompt), self._device, repeats=3)
        row.time(gpu, host, self._limits.prefill(prompt), prompt)

    def _profile(self, model: KernelTextModel, trace: Path, row: Row) -> None:
        """Writes the trace of one decode step and one prompt, for chrome://tracing or Perfetto."""
        sizes = self._sizes
        batch = sizes.batches[len(sizes.batches) // 2]
        runs = (self._step(model, batch, sizes.contexts[0]), self._chunks(model, sizes.prompts[0]))
        activities = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        trace.parent.mkdir(parents=True, exist_ok=True)
        with profile(activities=activities) as profiler:
            for run in runs:
                run()
            if self._device.type == "cuda":
                torch.cuda.synchronize()
        profiler.export_chrome_trace(str(trace))
        row.note = f"a decode step of {batch} sequences, then a prompt of {sizes.prompts[0]}"

    def _step(self, model: KernelTextModel, batch: int, context: int) -> Callable[[], object]:
        """A decode step that has run once."""
        each = -(-context // PAGE_TOKENS)
        pages = random_pages(model.config, batch * each, self._sizes.dtype, self._device)
        order = torch.randperm(batch * each).view(batch, each).tolist()
        graphs = DecodeGraphs(model, pages, self._record, most_rows=batch)
        builder = BatchBuilder()
        for index in range(batch):
            builder.add([5 + index % 50], context - 1, order[index], wants_logits=True)
        built = builder.build(self._device)
        graphs.run(built)
        return lambda: graphs.run(built)

    def _chunks(self, model: KernelTextModel, prompt: int) -> Callable[[], object]:
        """The passes of a prompt, which have run once."""
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
        return run


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
