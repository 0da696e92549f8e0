"""The model without weights on a LateStream, behind the product's own ModelRunner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace

from torch import Tensor

from services.engine.batch import ForwardBatch
from services.engine.runner import ModelRunner
from tests.support.fake_runner import NUM_LAYERS, VOCAB, FakeRunner, write_entries
from tests.support.late_stream import GPU, LateStream


def late_runner(stream: LateStream, kv_pages: Tensor) -> ModelRunner:
    """A runner whose pages are on the stream's GPU; `kv_pages`: what they hold at the moment."""
    return ModelRunner(LateModel(stream, kv_pages), stream.pool(kv_pages), layers_per_group=1)


class LateModel:
    """Computes what FakeRunner does, kernel by kernel. What a kernel is given is read when it runs."""

    config = SimpleNamespace(num_hidden_layers=NUM_LAYERS, kv_lora_rank=2)
    device = GPU

    def __init__(self, stream: LateStream, kv_pages: Tensor) -> None:
        self._stream = stream
        self._kv_pages = kv_pages
        self._fake = FakeRunner(kv_pages)

    def forward(
        self,
        batch: ForwardBatch,
        kv_pages: Tensor,
        views: object,
        on_layer: Callable[[int], None] | None = None,
        on_scored: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        # Page tables travel with the launch, so those of the moment count; tensors are read when it runs.
        contexts = [
            (list(sequence.pages[: sequence.num_pages]), length)
            for sequence in batch.sequences
            for length in range(sequence.context_len - sequence.num_tokens + 1, sequence.context_len + 1)
        ]
        touched = frozenset(page for pages, _ in contexts for page in pages)
        seen: dict[int, Tensor] = {}
        for layer in range(NUM_LAYERS):
            is_last = layer == NUM_LAYERS - 1
            kernel = partial(self._layer, layer, batch, contexts, seen if is_last else None)
            self._stream.give(f"layer {layer}", kernel, touched)
            if on_layer is not None:
                on_layer(layer)
        for rows in batch.scored_slices:
            logits = self._logits(rows, seen)
            if on_scored is not None:
                on_scored(logits)
        return self._logits(batch.logits_rows, seen)

    def _layer(
        self,
        layer: int,
        batch: ForwardBatch,
        contexts: Sequence[tuple[list[int], int]],
        seen: dict[int, Tensor] | None,
    ) -> None:
        """The kernels of a layer: they write entries, and read the contexts; the last one fills `seen`."""
        embeds = None if batch.embeds is None else (batch.embeds.rows.held, batch.embeds.values.held)
        inputs = batch.token_ids.held, batch.positions.held, batch.slot_mapping.held
        write_entries(self._kv_pages, layer, *inputs, embeds)
        if seen is not None:
            wanted = [rows.held.tolist() for rows in (batch.logits_rows, *batch.scored_slices)]
            for row in {row for rows in wanted for row in rows}:
                seen[row] = self._fake.logits_of(*contexts[row])

    def _logits(self, rows: Tensor, seen: dict[int, Tensor]) -> Tensor:
        """Logits of rows of the batch, from what the layers have made of them."""
        logits = self._stream.empty(len(rows), VOCAB)

        def compute() -> None:
            for place, row in enumerate(rows.held.tolist()):
                logits.held[place] = seen[row]

        self._stream.give("logits", compute)
        return logits
