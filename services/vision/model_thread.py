"""The thread that runs the vision model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import structlog
import torch
from torch import Tensor

from services.common.errors import Cancelled, InternalError, Unavailable
from services.engine.host_copy import DeviceEvent
from services.engine.loading.hardware import compute_on
from services.engine.model.vision.media import Grid
from services.engine.model.vision.model import VisionModel
from services.engine.step_watch import StepWatch
from services.vision.embedding_pool import write_embedding
from services.vision.preprocess import Patches

log = structlog.get_logger()

_NAME = "vision-model"
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

    def __init__(
        self,
        model: VisionModel,
        rows: Tensor,
        batch: int = 1,
        on_fatal: Callable[[BaseException], None] = lambda _: None,
        watch: StepWatch | None = None,
    ) -> None:
        """`rows`: the pool's memory, [pages, 64, width], on the model's device; `batch`: most images at a
        time. `on_fatal` is called, once or more often, with the reason why nothing can be encoded any more: a
        layer does not end, as `watch` says, or the device fails.
        """
        self._model = model
        self._rows = rows
        self._batch = batch
        self._on_fatal = on_fatal
        self._watch = watch or StepWatch(of="vision model")
        self._waiting: deque[_Work] = deque()
        self._executor = ThreadPoolExecutor(
            1, thread_name_prefix=_NAME, initializer=partial(compute_on, rows.device)
        )
        self._ended = threading.Event()
        self._watch.report(_NAME, self._ended, on_fatal)

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
        self._ended.set()

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
            if (lost := self._lost_device()) is not None:
                for work in batch:
                    work.done.set_exception(lost)
                self._on_fatal(lost)
                return
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
        lengths = [len(work.patches.pixels) for work in batch]
        size = sum(lengths), sum(length**2 for length in lengths)

        def before_layer() -> None:
            if all(work.stop.is_set() for work in batch):
                raise Cancelled("every caller waiting for the image has left")
            # A layer is a step: on a CPU all of them may take minutes. On a GPU the last one waits for all.
            self._watch.end()
            self._begin_step(*size)

        self._begin_step(*size)
        try:
            media = [(torch.from_numpy(work.patches.pixels), work.grid) for work in batch]
            for work, values in zip(batch, self._model.encode_all(media, before_layer), strict=True):
                write_embedding(self._rows, work.pages, values)
            DeviceEvent(self._rows.device).wait()  # a reader would not
        finally:
            self._watch.end()

    def _begin_step(self, patches: int, pairs: int) -> None:
        self._watch.begin(is_step=True)
        self._watch.computes(patches, pairs)

    def _lost_device(self) -> Unavailable | None:
        """Why the device does nothing any more; None if it works: most errors of a GPU last until its process
        ends.
        """
        try:
            DeviceEvent(self._rows.device).wait()
        except RuntimeError as error:
            log.exception("the device of the model fails")
            return Unavailable(f"the device of the vision model fails: {error}")
        return None
