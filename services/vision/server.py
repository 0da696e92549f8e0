"""VisionService: serves Encode, EncodeVideo and Lease from the encoder and the embedding leases."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from perigee.v1 import vision_pb2, vision_pb2_grpc
from services.common.errors import InvalidRequest, PerigeeError
from services.common.media.image_file import ImagePreprocess, image_hash
from services.common.media.video_file import check_offered
from services.common.telemetry.timeline import Timeline
from services.common.telemetry.tracer import Tracer, gone_on
from services.engine.leases.lease_stream import Authenticate, check_start, grant_to_proto, until_released
from services.engine.leases.lease_table import Lease
from services.families.media import MediaArithmetic
from services.vision.backlog import Terms
from services.vision.embedding_lessor import EmbeddingLessor
from services.vision.embedding_pool import StoredEmbedding
from services.vision.encoder import Encoded, ImageEncoder
from services.vision.preprocess import count_patches

HASH_BYTES = 32


@dataclass
class _Span:
    """What a call says about itself."""

    timeline: Timeline = field(default_factory=Timeline)
    attributes: dict[str, str | int | float] = field(default_factory=dict)


class VisionServicer(vision_pb2_grpc.VisionServiceServicer):
    """Serves Encode through the encoder, and one bidirectional stream per lease."""

    def __init__(
        self,
        encoder: ImageEncoder,
        arithmetic: MediaArithmetic,
        lessor: EmbeddingLessor,
        authenticate: Authenticate,
        incarnation: str,
        hold_ms: int,
        tracer: Tracer | None = None,
    ) -> None:
        self._encoder = encoder
        self._arithmetic = arithmetic
        self._lessor = lessor
        self._authenticate = authenticate
        self._incarnation = incarnation
        self._hold_ms = hold_ms
        self._tracer = tracer

    async def Encode(
        self, request: vision_pb2.EncodeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> vision_pb2.EncodeResponse:
        preprocess: ImagePreprocess = "parity" if request.parity else "standard"
        with self._traced(request) as span:
            content_hash, patches = await asyncio.to_thread(self._looked_at, request.image, preprocess)
            # A wrong hash would file one image's embedding under another's name, here and in prefix caches.
            if request.content_hash and request.content_hash != content_hash:
                raise InvalidRequest("content_hash is not that of image", "content_hash")
            terms = _terms(request, context, span.timeline, patches)
            encoded = await self._encoder.encode(content_hash, request.image, preprocess, terms)
            span.attributes |= {"patches": patches, "cached": int(encoded.cached)}
            return self._answer(encoded)

    async def EncodeVideo(
        self, request: vision_pb2.EncodeVideoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> vision_pb2.EncodeVideoResponse:
        with self._traced(request) as span:
            check_offered("this vision worker", "video")
            content_hash = await asyncio.to_thread(sha256, request.video)
            if request.content_hash and request.content_hash != content_hash:
                raise InvalidRequest("content_hash is not the SHA-256 of video", "content_hash")
            terms = _terms(request, context, span.timeline)
            chunks = await self._encoder.encode_video(content_hash, request.video, terms)
            span.attributes["chunks"] = len(chunks)
            return vision_pb2.EncodeVideoResponse(chunks=map(self._answer, chunks))

    @contextlib.contextmanager
    def _traced(self, request: vision_pb2.EncodeRequest | vision_pb2.EncodeVideoRequest) -> Iterator[_Span]:
        """Gives what a call fills in for its span, which ends with the block."""
        span = _Span()
        trace = gone_on(self._tracer, "encode request", request.traceparent, time.monotonic())
        if self._tracer is None or trace is None:
            yield span
            return
        error = "CANCELLED"
        try:
            yield span
            error = ""
        except PerigeeError as failure:
            error = failure.reason
            raise
        finally:
            self._tracer.end(trace, span.timeline, time.monotonic(), span.attributes, error)

    def _looked_at(self, image: bytes, preprocess: ImagePreprocess) -> tuple[bytes, int]:
        """The image's name and its patches. Takes milliseconds for a large image."""
        return image_hash(image, preprocess), count_patches(image, self._arithmetic, preprocess)

    def _answer(self, encoded: Encoded) -> vision_pb2.EncodeResponse:
        grid_t, grid_h, grid_w = encoded.embedding.grid
        return vision_pb2.EncodeResponse(
            content_hash=encoded.embedding.content_hash,
            num_tokens=encoded.embedding.num_tokens,
            grid_t=grid_t,
            grid_h=grid_h,
            grid_w=grid_w,
            hold_ms=self._hold_ms,
            incarnation=self._incarnation,
            cached=encoded.cached,
        )

    async def Lease(
        self,
        request_iterator: AsyncIterator[vision_pb2.EmbeddingLeaseRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[vision_pb2.EmbeddingLeaseResponse]:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("message") != "start":
            raise InvalidRequest("the first message must be start", "start")
        start = first.start
        hashes = list(start.content_hashes)
        check_start(start, "content_hashes", hashes, HASH_BYTES, self._authenticate)
        lease, embeddings = self._lessor.lease(start.reader_incarnation, start.lease_key, hashes)

        async def renew() -> None:
            self._lessor.renew(lease.id)

        async def release() -> None:
            self._lessor.release(lease.id)

        try:
            yield granted(lease, embeddings)
            async for answer in until_released(
                request_iterator, lease, renew, release, vision_pb2.EmbeddingLeaseResponse
            ):
                yield answer
        finally:
            self._lessor.abandon(lease.id)


def _terms(
    request: vision_pb2.EncodeRequest | vision_pb2.EncodeVideoRequest,
    context: grpc.aio.ServicerContext[Any, Any],
    timeline: Timeline,
    patches: int = 0,
) -> Terms:
    limit_s = request.limit_ms / 1000 if request.limit_ms else None
    weight = max(1, request.tenant_weight)
    return Terms(patches, limit_s, context.time_remaining(), request.tenant, weight, timeline)


def sha256(data: bytes) -> bytes:
    """Returns the 32-byte digest. Takes milliseconds for a large image: call it off the event loop."""
    return hashlib.sha256(data).digest()


def granted(lease: Lease, embeddings: Sequence[StoredEmbedding]) -> vision_pb2.EmbeddingLeaseResponse:
    """Builds the response to `start`."""
    pages = [
        vision_pb2.EmbeddingPages(pages=embedding.pages, num_tokens=embedding.num_tokens)
        for embedding in embeddings
    ]
    return vision_pb2.EmbeddingLeaseResponse(
        granted=vision_pb2.EmbeddingLeaseGranted(lease=grant_to_proto(lease), embeddings=pages)
    )
