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
from services.engine.model.config.model_config import TextConfig


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
    ) -> Tensor:
        """Logits float32 `[R, vocab]`; `on_layer(i)` when the cache entries of layer i are enqueued."""


class DecodeSteps(Protocol):
    """A quicker way for batches of one token per sequence: `DecodeGraphs`, `CompiledStep`."""

    def takes(self, batch: ForwardBatch) -> bool: ...
    def run(self, batch: ForwardBatch) -> Tensor: ...


class OtherRanks(Protocol):
    """The rest of a group: `RankGroup`. All ranks do the same in the same order."""

    def send(self, batch: ForwardBatch, late: DeviceTokens | None) -> None:
        """They begin with it, and with these tokens in it."""

    def spread(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """They are given what these pages hold here, where they have pages of their own."""

    def gather(self, kv_pages: Tensor, pages: Sequence[int]) -> None:
        """All are given what was read into these pages, where each rank reads a share."""


class BatchRunner(Protocol):
    """What a decode engine needs of a ModelRunner, and as that has it."""

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
    ) -> Tensor: ...


class ModelRunner:
    """The only caller of the model. Used by the engine-loop thread alone.

    `kv_pages` is `[num_pages, num_layers, 64, row width]` of `kv_format`, or of the float format of its dtype
    where that is None; `layers_per_group` is how many layers are
    announced together. `ranks`: the others of a group, who are given each batch before it is computed here.
    `decode_steps` computes the batches that it takes.
    """

    def __init__(
        self,
        model: TextForward,
        kv_pages: Tensor,
        layers_per_group: int,
        ranks: OtherRanks | None = None,
        decode_steps: DecodeSteps | None = None,
        kv_format: KvFormat | None = None,
    ) -> None:
        if layers_per_group < 1:
            raise ValueError(f"layers_per_group must be at least 1, not {layers_per_group}")
        self.model = model
        self.kv_pages = kv_pages
        self.layers_per_group = layers_per_group
        self._ranks = ranks
        self._decode_steps = decode_steps
        self._views = PageViews(kv_pages, model.config.kv_lora_rank, kv_format)
        self._runs_ahead = kv_pages.is_cuda

    @property
    def batch_device(self) -> torch.device:
        """Where batches are to be built: for a group on the host, from where the other ranks take them."""
        return self.kv_pages.device if self._ranks is None else torch.device("cpu")

    @property
    def interruptible(self) -> bool:
        """Whether `on_layers` may raise: the other ranks of a group would go on."""
        return self._ranks is None

    def copy(self, source: int, destination: int) -> None:
        """Copies a page, behind the batches given so far and before those to come."""
        self.kv_pages[destination].copy_(self.kv_pages[source])
        if self._ranks is not None:
            self._ranks.spread(self.kv_pages, [destination])

    def share_pages(self, pages: Sequence[int]) -> None:
        """Gives pages that were read from a peer to the other ranks; they can be lent when this returns."""
        if self._ranks is not None and pages:
            self._ranks.gather(self.kv_pages, pages)
            self.mark().wait()  # a reader would not wait for what the device has still to write

    def mark(self) -> DeviceEvent:
        """The end of the batches given so far, of what was done with their logits, and of copies."""
        return DeviceEvent(self.model.device)

    @torch.inference_mode()
    def forward(
        self,
        batch: ForwardBatch,
        on_layers: Callable[[int, int], None] | None = None,
        late: DeviceTokens | None = None,
    ) -> Tensor:
        """Computes the batch, late tokens put in; returns logits float32 `[R, vocab]`, one row per entry
        of `logits_rows`, which are valid until the next batch.

        `on_layers(first, end)` is called, in order and on this thread, when the cache entries of layers
        `[first, end)` are in memory. Where it raises, that comes out when nothing is written any more.
        """
        if self._ranks is not None:
            self._ranks.send(batch, late)
            batch = batch.to(self.model.device)
        if late is not None:
            late.put(batch)
        if on_layers is None:
            if self._decode_steps is not None and self._decode_steps.takes(batch):
                return self._decode_steps.run(batch)
            return self.model.forward(batch, self.kv_pages, self._views)
        last = self.model.config.num_hidden_layers - 1
        enqueued: list[tuple[int, int, DeviceEvent]] = []

        def announce(layer: int) -> None:
            first = layer - layer % self.layers_per_group
            if layer == last or (layer + 1) % self.layers_per_group == 0:
                if self._runs_ahead:
                    enqueued.append((first, layer + 1, self.mark()))
                else:
                    on_layers(first, layer + 1)

        logits = self.model.forward(batch, self.kv_pages, self._views, announce)
        # A GPU has all layers to compute before the first group of them is waited for.
        try:
            for first, end, moment in enqueued:
                moment.wait()
                on_layers(first, end)
        finally:
            if enqueued:
                enqueued[-1][2].wait()
        return logits
