"""The thread that runs the vision model."""

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
    """Encodes one image at a time, directly into pages of the pool. Its thread alone uses the device."""

    def __init__(self, model: VisionModel, rows: Tensor) -> None:
        """`rows`: the pool's memory, [pages, 64, width]."""
        self._model = model
        self._rows = rows
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="vision-model")

    def encode(self, patches: Patches, pages: Sequence[int], stop: threading.Event) -> Future[None]:
        """Writes the embedding of `patches` into `pages`.

        Nothing else may use `pages` until the future is done. It raises Cancelled if `stop` is set before the
        last layer, InternalError if the model fails on this image.
        """
        return self._executor.submit(self._encode, patches, pages, stop)

    def close(self) -> None:
        """Stops the thread after the image it is encoding."""
        self._executor.shutdown(cancel_futures=True)

    def _encode(self, patches: Patches, pages: Sequence[int], stop: threading.Event) -> None:
        def check() -> None:
            if stop.is_set():
                raise Cancelled("every caller waiting for the image has left")

        grid = patches.grid
        try:
            values = self._model.encode(
                torch.from_numpy(patches.pixels), (grid.grid_t, grid.grid_h, grid.grid_w), check
            )
            write_embedding(self._rows, pages, values)
        except (RuntimeError, ValueError) as error:
            # torch raises these when memory runs out or a shape is unsupported: only this image fails.
            log.exception("encoding failed", rows=grid.grid_h, columns=grid.grid_w)
            raise InternalError(
                f"an image of {grid.grid_h} x {grid.grid_w} patches could not be encoded"
            ) from error
