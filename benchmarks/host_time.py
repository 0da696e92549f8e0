"""Measures the host's time of a decode step beside the model: scheduling, the batch, sampling, output.

python -m benchmarks.host_time [--steps 40] [--out FILE]

Runs the engine of a decode worker over a model that computes nothing. Measures by batch size at contexts of
1,024 tokens, with rows drawn on the host and with rows drawn where the logits are, as on a GPU, and by
context length for 32 sequences. Exits with 1 if the time grows faster than the batch (with a fifth of
tolerance), or depends on the context by more than a fifth.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.engine_alone import EngineAlone
from benchmarks.result import write_result
from services.decode.limits import DecodeLimits
from services.decode.prompts.fetch import FetchOrder
from services.decode.request import Delta, Prompt
from services.engine.batch import PAGE_TOKENS, DeviceTokens, ForwardBatch
from services.engine.host_copy import DeviceEvent
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState

BATCHES = (1, 8, 32, 64, 128, 256)
CONTEXTS = (1_024, 8_192, 32_768)
SHORT, BATCH = 1_024, 32
TOLERANCE = 1.2
_VOCAB = 1_024


class NoModel:
    """Returns the same logits for every row."""

    def __init__(self) -> None:
        self._logits = torch.zeros(max(BATCHES), _VOCAB)
        self._logits[:, 5] = 1.0

    def forward(
        self,
        batch: ForwardBatch,
        on_layers: Callable[[int, int], None] | None = None,
        late: DeviceTokens | None = None,
        on_scored: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Logits `[rows with logits, vocab]`."""
        return self._logits[: len(batch.logits_rows)]

    @property
    def batch_device(self) -> torch.device:
        """A CPU."""
        return self._logits.device

    def copy(self, source: int, destination: int) -> None:
        """Does nothing: there are no pages."""

    def share_pages(self, pages: Sequence[int]) -> None:
        """Does nothing: there are no other ranks."""

    def mark(self) -> DeviceEvent:
        """An event that has already happened."""
        return DeviceEvent(self._logits.device)


class NoIO:
    """There are no prefill workers and no media."""

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        """Never called."""
        raise AssertionError

    def stop_fetch(self, prompt: Prompt) -> None:
        """Nothing to stop."""

    def start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        """Never called."""
        raise AssertionError

    def stop_media(self, prompt: Prompt) -> None:
        """Nothing to stop."""


def no_draw(logits: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """Returns some tokens at once: a device's draw costs the host nothing."""
    return torch.zeros(len(states), dtype=torch.int64)


class Bench:
    """`batch` running sequences of `context` tokens each, all different."""

    def __init__(self, batch: int, context: int, on_host: bool = True) -> None:
        self.tokens = 0
        each = context // PAGE_TOKENS + 8
        limits = DecodeLimits(
            max_running=batch,
            max_waiting=batch,
            chunk_tokens=batch * context,
            local_prefill_tokens=context,
            headroom_pages=0,
            context_length=each * PAGE_TOKENS,
            lease_s=60.0,
        )
        sampler = Sampler(_VOCAB) if on_host else Sampler(_VOCAB, no_draw)
        alone = EngineAlone(
            NoModel(), sampler, batch * each, limits, NoIO(), self._take, overlaps=not on_host
        )
        self._engine = alone.engine
        for handle in range(1, batch + 1):
            prompt = [(handle * 31 + place // 7) % _VOCAB for place in range(context)]
            alone.submit(prompt, limits.context_length, SamplingSpec(temperature=1.0, top_p=0.95))
        while self._engine.load.running < batch:
            self._engine.step()

    def step_ms(self) -> float:
        """Milliseconds of one step."""
        began = time.perf_counter()
        self._engine.step()
        return 1e3 * (time.perf_counter() - began)

    def _take(self, deltas: list[Delta]) -> None:
        self.tokens += len(deltas)


def medians(benches: dict[int, Bench], steps: int) -> dict[int, float]:
    """Milliseconds per step of each; they take turns, so that disturbances of the machine affect all."""
    times: dict[int, list[float]] = {name: [] for name in benches}
    for _ in range(steps):
        for name, bench in benches.items():
            times[name].append(bench.step_ms())
    return {name: statistics.median(each) for name, each in times.items()}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host_time", description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    by_batch = medians({batch: Bench(batch, SHORT) for batch in BATCHES}, options.steps)
    elsewhere = medians({batch: Bench(batch, SHORT, on_host=False) for batch in BATCHES}, options.steps)
    by_context = medians({context: Bench(BATCH, context) for context in CONTEXTS}, options.steps)
    for batch, taken in by_batch.items():
        each = 1e3 * taken / batch
        print(
            f"{batch:4} sequences of {SHORT:,} tokens: {taken:7.2f} ms a step, {each:6.1f} us each; "
            f"drawn on a device: {elsewhere[batch]:7.2f} ms"
        )
    for context, taken in by_context.items():
        print(f"{BATCH:4} sequences of {context:,} tokens: {taken:7.2f} ms a step")
    most = BATCHES[-1]
    growth = (by_batch[most] / most) / (by_batch[BATCH] / BATCH)
    spread = max(by_context.values()) / min(by_context.values())
    print(f"a sequence costs {growth:.2f} times as much among {most} as among {BATCH} (bound {TOLERANCE})")
    print(f"the dearest context costs {spread:.2f} times as much as the cheapest (bound {TOLERANCE})")
    found = {
        "ms_by_batch": by_batch,
        "ms_by_batch_drawn_on_device": elsewhere,
        "ms_by_context": by_context,
        "growth": growth,
        "spread": spread,
    }
    write_result(options.out, found)
    return int(growth > TOLERANCE or spread > TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())
