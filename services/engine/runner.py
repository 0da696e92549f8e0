"""Runs batches of one model over one pool of pages."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from services.engine.batch import ForwardBatch
from services.engine.model.page_views import PageViews
from services.engine.model.text_model import TextModel


class ModelRunner:
    """The only caller of the model. Used by the engine-loop thread alone.

    `kv_pages` is `[num_pages, num_layers, 64, latent + rope]`; `layers_per_group` is how many layers are
    announced together. `send` passes each batch on to the other ranks of a group before it is computed here.
    """

    def __init__(
        self,
        model: TextModel,
        kv_pages: Tensor,
        layers_per_group: int,
        send: Callable[[ForwardBatch], None] | None = None,
    ) -> None:
        if layers_per_group < 1:
            raise ValueError(f"layers_per_group must be at least 1, not {layers_per_group}")
        self.model = model
        self.kv_pages = kv_pages
        self.layers_per_group = layers_per_group
        self._send = send
        self._views = PageViews(kv_pages, model.config.kv_lora_rank)

    @torch.inference_mode()
    def forward(self, batch: ForwardBatch, on_layers: Callable[[int, int], None] | None = None) -> Tensor:
        """Computes the batch; returns logits float32 `[R, vocab]`, one row per entry of `logits_rows`.

        `on_layers(first, end)` is called, in order and on this thread, when the cache entries of layers
        `[first, end)` are in memory.
        """
        if self._send is not None:
            self._send(batch)
        if on_layers is None:
            return self.model.forward(batch, self.kv_pages, self._views)
        last = self.model.config.num_hidden_layers - 1

        def announce(layer: int) -> None:
            first = layer - layer % self.layers_per_group
            if layer == last or (layer + 1) % self.layers_per_group == 0:
                if self.kv_pages.is_cuda:
                    torch.cuda.current_stream(self.kv_pages.device).synchronize()
                on_layers(first, layer + 1)

        return self.model.forward(batch, self.kv_pages, self._views, announce)
