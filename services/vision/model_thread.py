"""The thread that runs the vision model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import structlog
import torch
from torch import Tensor

from services.common.errors import Cancelled, InternalError
from services.engine.host_copy import DeviceEvent
from services.engine.loading.hardware import compute_on
from services.engine.model.vision.media import Grid
from services.engine.model.vision.model import VisionModel
from services.vision.embedding_pool import write_embedding
from services.vision.preprocess import Patches

log = structlog.get_logger()

_MOST_PATCHES = 65_536
"""In a batch: four of the largest images, or one whatever its size."""


@dataclass(frozen=True)
class _Work:
    """An image and where its embedding goes. `done` gets the image's share of its batch's patches."""

    patches: Patches
    pages: Sequence[int]
    stop: threading.Event
    done: Future[float] = field(default_factory=Future)

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns."""
        grid = self.patches.grid
        return grid.grid_t, grid.grid_h, grid.grid_w


class ModelThread:
    """Encodes images, those that wait together, directly into pages of the pool. Its thread alone uses the
    device.
    """

    def __init__(self, model: VisionModel, rows: Tensor, batch: int = 1) -> None:
        """`rows`: the pool's memory, [pages, 64, width], on the model's device; `batch`: most images at a
        time.
        """
        self._model = model
        self._rows = rows
        self._batch = batch
        self._waiting: deque[_Work] = deque()
        self._executor = ThreadPoolExecutor(
            1, thread_name_prefix="vision-model", initializer=partial(compute_on, rows.device)
        )

    def encode(self, patches: Patches, pages: Sequence[int], stop: threading.Event) -> Future[float]:
        """Writes the embedding of `patches` into `pages`.

        Nothing else may use `pages` until the future is done, with the image's share, up to 1, of what was
        computed at once. It raises Cancelled if `stop` is set before the last layer, for all images of that
        batch; InternalError if the model fails on this image.
        """
        work = _Work(patches, pages, stop)
        self._waiting.append(work)
        self._executor.submit(self._turn)
        return work.done

    def close(self) -> None:
        """Stops the thread after the images it is encoding."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for work in waiting:
            work.done.cancel()
        self._executor.shutdown(cancel_futures=True)

    def _turn(self) -> None:
        """Encodes what waits; an earlier turn may have done it."""
        batch = self._next_batch()
        if batch:
            self._encode(batch)

    def _next_batch(self) -> list[_Work]:
        """Takes the images that have waited longest, as many as may be encoded at a time."""
        batch: list[_Work] = []
        patches = 0
        while self._waiting and len(batch) < self._batch:
            patches += len(self._waiting[0].patches.pixels)
            if batch and patches > _MOST_PATCHES:
                break
            work = self._waiting.popleft()
            if work.done.set_running_or_notify_cancel():
                batch.append(work)
        return batch

    def _encode(self, batch: Sequence[_Work]) -> None:
        try:
            self._compute(batch)
        except (RuntimeError, ValueError) as error:
            # torch raises these when memory runs out or a shape is unsupported: only that image fails.
            if len(batch) > 1:
                for work in batch:
                    self._encode([work])
                return
            _, rows, columns = batch[0].grid
            log.exception("encoding failed", rows=rows, columns=columns)
            failure = InternalError(f"an image of {rows} x {columns} patches could not be encoded")
            failure.__cause__ = error
            batch[0].done.set_exception(failure)
        except BaseException as error:  # noqa: BLE001 - barrier: the futures carry it to the callers
            for work in batch:
                work.done.set_exception(error)
        else:
            patches = sum(len(work.patches.pixels) for work in batch)
            for work in batch:
                work.done.set_result(len(work.patches.pixels) / patches)

    def _compute(self, batch: Sequence[_Work]) -> None:
        """Returns when the embeddings are in the pool's memory."""

        def check() -> None:
            if all(work.stop.is_set() for work in batch):
                raise Cancelled("every caller waiting for the image has left")

        media = [(torch.from_numpy(work.patches.pixels), work.grid) for work in batch]
        for work, values in zip(batch, self._model.encode_all(media, check), strict=True):
            write_embedding(self._rows, work.pages, values)
        DeviceEvent(self._rows.device).wait()  # a reader would not
