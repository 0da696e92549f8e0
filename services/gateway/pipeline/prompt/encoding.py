"""The vision stage: every file of a prompt at once, each by content hash, elsewhere if a worker fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import structlog

from perigee.v1 import vision_pb2, vision_pb2_grpc
from services.common.errors import (
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


class VisionStage:
    """Asks vision workers for embeddings; cancelling it cancels every call it has open."""

    def __init__(self, router: Router, timeout_s: float) -> None:
        self._router = router
        self._timeout_s = timeout_s

    async def encode(self, media: Sequence[PromptMedium]) -> dict[bytes, vision_pb2.MediaRef]:
        """Returns the address of each medium's embedding, by content hash; offsets are left unset.

        The chunks of a video are encoded by one worker, which is sent the file once.
        Raises InvalidRequest naming the medium's field, Overloaded, Unavailable, Incompatible when the worker
        counts rows otherwise, or DeadlineExceeded. The first failure cancels the others.
        """
        files: dict[bytes, list[PromptMedium]] = {}
        for name, medium in {medium.content_hash: medium for medium in media}.items():
            key = medium.video.content_hash if isinstance(medium, PromptChunk) else name
            files.setdefault(key, []).append(medium)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._encode(of_one_file)) for of_one_file in files.values()]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return {ref.content_hash: ref for task in tasks for ref in task.result()}

    async def _encode(self, media: Sequence[PromptMedium]) -> list[vision_pb2.MediaRef]:
        """All media of one file; the first of them stands for it in routing."""
        tried: set[str] = set()
        while True:
            links = self._router.vision(media[0].content_hash)
            # When all have been tried the best one is asked again: it may have been restarted meanwhile.
            link = next((each for each in links if each.address not in tried), links[0])
            try:
                return await self._ask(link, media)
            except (Unavailable, Overloaded) as error:
                if link.address in tried or len(tried) >= _MOST_TRIED:
                    raise
                log.warning("encoding failed", worker=link.address, detail=error.message)
            tried.add(link.address)

    async def _ask(self, link: WorkerLink, media: Sequence[PromptMedium]) -> list[vision_pb2.MediaRef]:
        first, timeout_s = media[0], self._timeout_s * len(media)
        link.note_sent()
        try:
            if isinstance(first, PromptChunk):
                answers = await _encode_video(link, first.video, timeout_s)
            else:
                answers = await _encode_image(link, first, timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                # The bound of this one call, not the request's: another worker may be quicker.
                message = f"vision worker {link.address} did not answer in {timeout_s:g} s"
                raise Unavailable(message) from error
            param = first.video.param if isinstance(first, PromptChunk) else first.param
            raise _named(from_rpc_error(error), link.address, param) from error
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
    link: WorkerLink, video: VideoFile, timeout_s: float
) -> list[vision_pb2.EncodeResponse]:
    request = vision_pb2.EncodeVideoRequest(video=video.data, content_hash=video.content_hash)
    stub = vision_pb2_grpc.VisionServiceStub(link.channel)
    return list((await stub.EncodeVideo(request, timeout=timeout_s)).chunks)


async def _encode_image(
    link: WorkerLink, image: PromptImage, timeout_s: float
) -> list[vision_pb2.EncodeResponse]:
    request = vision_pb2.EncodeRequest(
        image=image.data, content_hash=image.content_hash, parity=image.preprocess == "parity"
    )
    return [await vision_pb2_grpc.VisionServiceStub(link.channel).Encode(request, timeout=timeout_s)]


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
    return type(error)(f"vision worker {address}: {error.message}")
