"""The vision stage: every file of a prompt at once, each by content hash, elsewhere if a worker fails."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import structlog

from perigee.v1 import vision_pb2, vision_pb2_grpc
from services.common.errors import (
    DeadlineExceeded,
    Incompatible,
    InvalidRequest,
    Overloaded,
    PerigeeError,
    Unavailable,
)
from services.common.rpc.status import from_rpc_error
from services.gateway.media.images import PromptImage
from services.gateway.media.request_media import PromptMedium
from services.gateway.media.videos import PromptChunk, VideoFile
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.router import Router

log = structlog.get_logger()

_MOST_TRIED = 3
_MOST_MS = (1 << 32) - 1


class _TooSlow(Unavailable):
    """A worker has spent a file's whole limit on it: the same worker would do so again."""


@dataclass(frozen=True)
class _File:
    """The media of one file, until when workers may queue it, whose it is, and its request's trace."""

    media: Sequence[PromptMedium]
    deadline: float
    whose: tuple[int, int]
    traceparent: str


class VisionStage:
    """Asks vision workers for embeddings; cancelling it cancels every call it has open."""

    def __init__(self, router: Router, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit_s`: the most that a worker may spend on an image or a chunk, its queue apart."""
        self._router = router
        self._limit_s = limit_s
        self._clock = clock

    async def encode(
        self,
        media: Sequence[PromptMedium],
        deadline: float,
        whose: tuple[int, int] = (0, 1),
        traceparent: str = "",
    ) -> dict[bytes, vision_pb2.MediaRef]:
        """Returns the address of each medium's embedding, by content hash; offsets are left unset.

        `deadline`: seconds of the clock until which workers may queue it. `whose`: the tenant's number and
        weight; `traceparent`: of the request's span. One worker encodes all chunks of a video and is sent
        the file once. Raises InvalidRequest naming the medium's field, Overloaded,
        Unavailable, Incompatible when the worker counts rows otherwise, or DeadlineExceeded. The first
        failure cancels the others.
        """
        files: dict[bytes, list[PromptMedium]] = {}
        for name, medium in {medium.content_hash: medium for medium in media}.items():
            key = medium.video.content_hash if isinstance(medium, PromptChunk) else name
            files.setdefault(key, []).append(medium)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._encode(_File(file, deadline, whose, traceparent)))
                    for file in files.values()
                ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return {ref.content_hash: ref for task in tasks for ref in task.result()}

    async def _encode(self, file: _File) -> list[vision_pb2.MediaRef]:
        """All media of one file; the first of them stands for it in routing."""
        tried: set[str] = set()
        while True:
            links = self._router.vision(file.media[0].content_hash)
            untried = [link for link in links if link.address not in tried]
            # When all have been tried the best one is asked again: it may have been restarted meanwhile.
            link = untried[0] if untried else links[0]
            link.circuit.chosen()
            try:
                encoded = await self._ask(link, file)
            except (Unavailable, Overloaded) as error:
                if isinstance(error, Unavailable):
                    link.circuit.failed()
                if link.address in tried or len(tried) >= _MOST_TRIED:
                    raise
                if isinstance(error, Overloaded | _TooSlow) and len(untried) <= 1:
                    raise
                log.warning("encoding failed", worker=link.address, detail=error.message)
            else:
                link.circuit.succeeded()
                return encoded
            tried.add(link.address)

    async def _ask(self, link: WorkerLink, file: _File) -> list[vision_pb2.MediaRef]:
        media, first = file.media, file.media[0]
        left_s = file.deadline - self._clock()
        param = first.video.param if isinstance(first, PromptChunk) else first.param
        link.note_sent()
        try:
            if isinstance(first, PromptChunk):
                asking = _encode_video(link, first.video, self._limit_s, left_s, file)
            else:
                asking = _encode_image(link, first, self._limit_s, left_s, file)
            answers = await link.while_up(asking)
        except grpc.aio.AioRpcError as error:
            cause = from_rpc_error(error)
            if isinstance(cause, DeadlineExceeded) and self._clock() < file.deadline:
                raise _TooSlow(
                    f"vision worker {link.address} did not encode {param} in {self._limit_s:g} s"
                ) from error
            raise _named(cause, link.address, param) from error
        finally:
            link.note_ended()
        counted = [medium.num_tokens for medium in media]
        if [answer.num_tokens for answer in answers] != counted:
            raise Incompatible(
                f"vision worker {link.address} gives {sum(answer.num_tokens for answer in answers)} rows for"
                f" a medium of {sum(counted)} pads"
            )
        return [_ref(link.address, *pair) for pair in zip(media, answers, strict=True)]


async def _encode_video(
    link: WorkerLink, video: VideoFile, limit_s: float, left_s: float, file: _File
) -> list[vision_pb2.EncodeResponse]:
    request = vision_pb2.EncodeVideoRequest(
        video=video.data,
        content_hash=video.content_hash,
        limit_ms=_milliseconds(limit_s),
        tenant=file.whose[0],
        tenant_weight=file.whose[1],
        traceparent=file.traceparent,
    )
    stub = vision_pb2_grpc.VisionServiceStub(link.channel)
    return list((await stub.EncodeVideo(request, timeout=left_s)).chunks)


async def _encode_image(
    link: WorkerLink, image: PromptImage, limit_s: float, left_s: float, file: _File
) -> list[vision_pb2.EncodeResponse]:
    request = vision_pb2.EncodeRequest(
        image=image.data,
        content_hash=image.content_hash,
        parity=image.preprocess == "parity",
        limit_ms=_milliseconds(limit_s),
        tenant=file.whose[0],
        tenant_weight=file.whose[1],
        traceparent=file.traceparent,
    )
    return [await vision_pb2_grpc.VisionServiceStub(link.channel).Encode(request, timeout=left_s)]


def _milliseconds(seconds: float) -> int:
    return min(_MOST_MS, math.ceil(1000 * seconds))


def _ref(address: str, medium: PromptMedium, answer: vision_pb2.EncodeResponse) -> vision_pb2.MediaRef:
    return vision_pb2.MediaRef(
        content_hash=medium.content_hash,
        num_tokens=answer.num_tokens,
        address=address,
        incarnation=answer.incarnation,
    )


def _named(error: PerigeeError, address: str, param: str) -> PerigeeError:
    """The same failure, naming the caller's field where it is the caller's fault, else the worker."""
    if isinstance(error, InvalidRequest):
        return type(error)(error.message, param)
    return error.about(f"vision worker {address}")
