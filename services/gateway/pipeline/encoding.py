"""The vision stage: every image of a prompt at once, each by content hash, elsewhere if a worker fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

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
from services.gateway.pipeline.images import PromptImage
from services.gateway.router import Router
from services.gateway.workers.link import WorkerLink

log = structlog.get_logger()

_MOST_TRIED = 3


class VisionStage:
    """Asks vision workers for embeddings; cancelling it cancels every call it has open."""

    def __init__(self, router: Router, timeout_s: float) -> None:
        self._router = router
        self._timeout_s = timeout_s

    async def encode(self, images: Iterable[PromptImage]) -> dict[bytes, vision_pb2.MediaRef]:
        """Where each image's embedding is, by content hash; offsets are left unset.

        Raises InvalidRequest naming the image's field, Overloaded, Unavailable, Incompatible when the worker
        counts rows otherwise, or DeadlineExceeded. The first failure cancels the others.
        """
        distinct = {image.content_hash: image for image in images}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {key: group.create_task(self._encode(image)) for key, image in distinct.items()}
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return {key: task.result() for key, task in tasks.items()}

    async def _encode(self, image: PromptImage) -> vision_pb2.MediaRef:
        tried: set[str] = set()
        while True:
            links = self._router.vision(image.content_hash)
            # When all have been tried the best one is asked again: it may have been restarted meanwhile.
            link = next((each for each in links if each.address not in tried), links[0])
            try:
                return await self._ask(link, image)
            except (Unavailable, Overloaded) as error:
                if link.address in tried or len(tried) >= _MOST_TRIED:
                    raise
                log.warning("encoding failed", worker=link.address, detail=error.message)
            tried.add(link.address)

    async def _ask(self, link: WorkerLink, image: PromptImage) -> vision_pb2.MediaRef:
        request = vision_pb2.EncodeRequest(image=image.data, content_hash=image.content_hash)
        link.note_sent()
        link.calls += 1
        try:
            answer = await vision_pb2_grpc.VisionServiceStub(link.channel).Encode(
                request, timeout=self._timeout_s
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                # The bound of this one call, not the request's: another worker may be quicker.
                message = f"vision worker {link.address} did not answer in {self._timeout_s:g} s"
                raise Unavailable(message) from error
            raise _named(from_rpc_error(error), link.address, image.param) from error
        finally:
            link.calls -= 1
        if answer.num_tokens != image.num_tokens:
            raise Incompatible(
                f"vision worker {link.address} gives {answer.num_tokens} rows for an image of"
                f" {image.num_tokens} pads"
            )
        return vision_pb2.MediaRef(
            content_hash=image.content_hash,
            num_tokens=answer.num_tokens,
            address=link.address,
            incarnation=answer.incarnation,
        )


def _named(error: PerigeeError, address: str, param: str) -> PerigeeError:
    """The same failure, naming the caller's field where it is the caller's fault, else the worker."""
    if isinstance(error, InvalidRequest):
        return type(error)(error.message, param)
    return type(error)(f"vision worker {address}: {error.message}")
