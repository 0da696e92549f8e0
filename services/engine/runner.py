"""Runs batches of one model over one pool of pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from services.engine.batch import DeviceTokens, ForwardBatch
from services.engine.host_copy import DeviceEvent
from services.engine.kv_cache.kv_format import KvFormat
from services.engine.model.attention.page_views import PageViews
from services.engine.model.config.text_config import TextConfig
from services.engine.step_watch import StepWatch


class TextForward(Protocol):
    """A text model: `TextModel`, or `KernelTextModel` on a GPU."""

    @property
    def config(self) -> TextConfig: ...
    @property
    def device(self) -> torch.device: ...

    def forward(
        self,
        batch: ForwardBatch,
        kv_pages: Tensor,
        views: PageViews,
        on_layer: Callable[[int], None] | None = None,
        on_scored: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Logits float32 `[R, vocab]`; `on_layer(i)` when the cache entries of layer i are enqueued,
        `on_scored(logits)` for each slice of scored rows.
        """


class DecodeSteps(Protocol):
    """A faster path for batches of one token per sequence: `DecodeGraphs`, `CompiledStep`."""

    def takes(self, batch: ForwardBatch) -> bool: ...
    def run(self, batch: ForwardBatch) -> Tensor: ...


class OtherRanks(Protocol):
    """The other ranks of a group: `RankGroup`. All ranks do the same in the same order."""

    def send(self, batch: ForwardBatch, late: DeviceTokens | None) -> ForwardBatch:
        """Starts the batch on the other ranks, with these late tokens in it; returns what to compute here."""

    def spread(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """Copies what these pages hold here to the other ranks, if they have their own pages."""

    def gather(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """Copies to all ranks what was read into these pages, if each rank reads a share."""


class BatchRunner(Protocol):
    """The methods of ModelRunner that a decode engine uses."""

    @property
    def batch_device(self) -> torch.device: ...
    def copy(self, source: int, destination: int) -> None: ...
    def share_pages(self, pages: Sequence[int]) -> None: ...
    def mark(self) -> DeviceEvent: ...
    def forward(
        self,
        batch: ForwardBatch,
        on_layers: Callable[[int, int], None] | None = None,
        late: DeviceTokens | None = None,
        on_scored: Callable[[Tensor], None] | None = None,
    ) -> Tensor: ...


class ModelRunner:
    """The only caller of the model. Only the engine-loop thread may use it.

    `kv_pages` is `[num_pages, num_layers, 64, row width]` of `kv_format`, or of the float format of its dtype
    if that is None; `layers_per_group` is how many layers are announced together. `ranks`: the other ranks of
    a group, which get each batch before it is computed here.
    `decode_steps` computes the batches that it takes. `watch` is given the size of each pass.
    """

    def __init__(
        self,
        model: TextForward,
        kv_pages: Tensor,
        layers_per_group: int,
        ranks: OtherRanks | None = None,
        decode_steps: DecodeSteps | None = None,
        kv_format: KvFormat | None = None,
        watch: StepWatch | None = None,
    ) -> None:
        if layers_per_group < 1:
            raise ValueError(f"layers_per_group must be at least 1, not {layers_per_group}")
        self.model = model
        self.kv_pages = kv_pages
        self.layers_per_group = layers_per_group
        self._ranks = ranks
        self._decode_steps = decode_steps
        self._watch = watch
        self._views = PageViews(kv_pages, model.config.kv_lora_rank, kv_format)
        self._runs_ahead = kv_pages.is_cuda

    @property
    def batch_device(self) -> torch.device:
        """The device on which batches must be built: for a group the host, from where they are sent to the
        other ranks.
        """
        return self.kv_pages.device if self._ranks is None else torch.device("cpu")

    @property
    def interruptible(self) -> bool:
        """Whether `on_layers` may raise: the other ranks of a group would continue."""
        return self._ranks is None

    def copy(self, source: int, destination: int) -> None:
        """Copies a page, after the batches given so far and before those to come."""
        self.kv_pages[destination].copy_(self.kv_pages[source])
        if self._ranks is not None:
            self._ranks.spread(self.kv_pages, [destination])

    def share_pages(self, pages: Sequence[int]) -> None:
        """Copies pages that were read from a peer to the other ranks; they can be lent when this returns."""
        if self._ranks is not None and pages:
            self._ranks.gather(self.kv_pages, pages)
            self.mark().wait()  # a reader does not wait for writes that the device has not done yet

    def mark(self) -> DeviceEvent:
        """Marks the end of the batches given so far, of the work on their logits, and of copies."""
        return DeviceEvent(self.model.device)

    @torch.inference_mode()
    def forward(
        self,
        batch: ForwardBatch,
        on_layers: Callable[[int, int], None] | None = None,
        late: DeviceTokens | None = None,
        on_scored: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Computes the batch, with the late tokens put in; returns logits float32 `[R, vocab]`, one row per
        entry of `logits_rows`, valid until the next batch.

        Calls `on_layers(first, end)`, in order and on this thread, when the cache entries of layers `[first,
        end)` are in memory. If that raises, `forward` raises it once nothing is being written any more.
        Calls `on_scored` with the logits of the scored rows, float32 `[up to 64, vocab]` at a time, which are
        valid until it returns.
        """
        if self._watch is not None:
            self._watch.computes(len(batch.token_ids), batch.attended_pairs)
        if self._ranks is not None:
            batch = self._ranks.send(batch, late).to(self.model.device)
        if late is not None:
            late.put(batch)
        if on_layers is None:
            if self._decode_steps is not None and self._decode_steps.takes(batch):
                return self._decode_steps.run(batch)
            return self.model.forward(batch, self.kv_pages, self._views, on_scored=on_scored)
        last = self.model.config.num_hidden_layers - 1
        enqueued: list[tuple[int, int, DeviceEvent]] = []

        def announce(layer: int) -> None:
            first = layer - layer % self.layers_per_group
            if layer == last or (layer + 1) % self.layers_per_group == 0:
                if self._runs_ahead:
                    enqueued.append((first, layer + 1, self.mark()))
                else:
                    on_layers(first, layer + 1)

        logits = self.model.forward(batch, self.kv_pages, self._views, announce, on_scored)
        # The GPU has all layers enqueued before anything waits for the first group of them.
        try:
            for first, end, moment in enqueued:
                moment.wait()
                on_layers(first, end)
        finally:
            if enqueued:
                enqueued[-1][2].wait()
        return logits
