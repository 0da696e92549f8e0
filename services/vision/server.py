"""VisionService: protos to the encoder and the lending desk, and back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from perigee.v1 import vision_pb2, vision_pb2_grpc
from services.common.errors import Incompatible, InvalidRequest
from services.engine.kv_cache.lease_table import Lease
from services.vision.embedding_pool import Embedding
from services.vision.encoder import Encoded, ImageEncoder
from services.vision.lending import Lending

HASH_BYTES = 32


class VisionServicer(vision_pb2_grpc.VisionServiceServicer):
    """Encode by the encoder; one bidirectional stream per lease."""

    def __init__(
        self,
        encoder: ImageEncoder,
        lending: Lending,
        is_paired: Callable[[str], bool],
        incarnation: str,
        hold_ms: int,
    ) -> None:
        self._encoder = encoder
        self._lending = lending
        self._is_paired = is_paired
        self._incarnation = incarnation
        self._hold_ms = hold_ms

    async def Encode(
        self, request: vision_pb2.EncodeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> vision_pb2.EncodeResponse:
        content_hash = await asyncio.to_thread(sha256, request.image)
        # A wrong hash would put one image's embedding under another's name, here and in prefix caches.
        if request.content_hash and request.content_hash != content_hash:
            raise InvalidRequest("content_hash is not the SHA-256 of image", "content_hash")
        return self._answer(await self._encoder.encode(content_hash, request.image))

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
        reader, key = first.start.reader_incarnation, first.start.lease_key
        hashes = self._checked(first.start)
        lease, embeddings = self._lending.lease(reader, key, hashes)
        renewals = 0
        try:
            yield granted(lease, embeddings)
            async for request in request_iterator:
                if request.WhichOneof("message") == "renew":
                    self._lending.renew(reader, key)
                    renewals += 1
                    renewed = vision_pb2.LeaseRenewed(sequence=renewals)
                    yield vision_pb2.EmbeddingLeaseResponse(renewed=renewed)
                elif request.WhichOneof("message") == "release":
                    self._lending.release(reader, key)
                    return
        finally:
            # After a release there is nothing left to abandon. Without one a crash and a half-close look the
            # same, so the pages wait for the reader's settled.
            self._lending.abandon(reader, key)

    def _checked(self, start: vision_pb2.EmbeddingLeaseStart) -> Sequence[bytes]:
        """The hashes asked for, of a reader that may ask."""
        if not self._is_paired(start.reader_incarnation):
            raise Incompatible(f"reader {start.reader_incarnation!r} has no open handshake")
        if not start.lease_key:
            raise InvalidRequest("lease_key is 0; the reader must choose one", "lease_key")
        if not start.content_hashes:
            raise InvalidRequest("content_hashes is empty", "content_hashes")
        if any(len(content_hash) != HASH_BYTES for content_hash in start.content_hashes):
            raise InvalidRequest(f"a content hash is not {HASH_BYTES} bytes long", "content_hashes")
        return list(start.content_hashes)


def sha256(data: bytes) -> bytes:
    """32 bytes; some milliseconds for a large image, so not for the event loop."""
    return hashlib.sha256(data).digest()


def granted(lease: Lease, embeddings: Sequence[Embedding]) -> vision_pb2.EmbeddingLeaseResponse:
    """The answer to start."""
    grant = vision_pb2.LeaseGrant(
        lease_id=lease.id, generation=lease.generation, duration_ms=int(lease.duration_s * 1000)
    )
    pages = [
        vision_pb2.EmbeddingPages(blocks=embedding.pages, num_tokens=embedding.num_tokens)
        for embedding in embeddings
    ]
    return vision_pb2.EmbeddingLeaseResponse(
        granted=vision_pb2.EmbeddingLeaseGranted(lease=grant, embeddings=pages)
    )
