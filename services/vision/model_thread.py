"""The one thread that runs the vision model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import structlog
import torch
from torch import Tensor

from services.common.errors import Cancelled, InternalError
from services.engine.model.vision.model import VisionModel
from services.vision.embedding_pool import write_embedding
from services.vision.preprocess import Patches

log = structlog.get_logger()


class ModelThread:
    """Owns the device: one image at a time, written straight into pages of the pool."""

    def __init__(self, model: VisionModel, rows: Tensor) -> None:
        """`rows`: the pool's memory, [pages, 64, width]."""
        self._model = model
        self._rows = rows
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="vision-model")

    def encode(self, patches: Patches, pages: Sequence[int], stop: threading.Event) -> Future[None]:
        """Writes the embedding of `patches` into `pages`, which nobody else uses until the future is done.

        Cancelled when `stop` was set before the last layer, InternalError when the model fails on this image.
        """
        return self._executor.submit(self._encode, patches, pages, stop)

    def close(self) -> None:
        """Waits for the image that runs."""
        self._executor.shutdown(cancel_futures=True)

    def _encode(self, patches: Patches, pages: Sequence[int], stop: threading.Event) -> None:
        def check() -> None:
            if stop.is_set():
                raise Cancelled("nobody waits for the image any more")

        grid = patches.grid
        try:
            values = self._model.encode(
                torch.from_numpy(patches.pixels), (grid.grid_t, grid.grid_h, grid.grid_w), check
            )
            write_embedding(self._rows, pages, values)
        except (RuntimeError, ValueError) as error:
            # What torch raises for want of memory or a shape it cannot take concerns this image alone.
            log.exception("encoding failed", rows=grid.grid_h, columns=grid.grid_w)
            raise InternalError(
                f"an image of {grid.grid_h} x {grid.grid_w} patches could not be encoded"
            ) from error
