"""The owner's side of a Lease call, for KV pages and embeddings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from perigee.v1 import pages_pb2, vision_pb2
from services.common.errors import InvalidRequest
from services.engine.leases.lease_table import Lease

LeaseStart = vision_pb2.EmbeddingLeaseStart | pages_pb2.PageLeaseStart
LeaseMessage = vision_pb2.EmbeddingLeaseRequest | pages_pb2.PageLeaseRequest
Authenticate = Callable[[str, bytes], None]
"""Raises Unavailable unless the reader of this name is paired and this is its token."""
Answer = TypeVar("Answer", vision_pb2.EmbeddingLeaseResponse, pages_pb2.PageLeaseResponse)


def check_start(
    start: LeaseStart, field: str, hashes: Sequence[bytes], hash_bytes: int, authenticate: Authenticate
) -> None:
    """Raises what `authenticate` raises, and InvalidRequest for an invalid start.

    `hashes` are the start's `field`; each must have `hash_bytes` bytes.
    """
    authenticate(start.reader_incarnation, start.reader_token)
    if not start.lease_key:
        raise InvalidRequest("lease_key is 0; the reader must choose one", "lease_key")
    if not hashes:
        raise InvalidRequest(f"{field} is empty", field)
    if any(len(each) != hash_bytes for each in hashes):
        raise InvalidRequest(f"a hash in {field} is not {hash_bytes} bytes long", field)


def grant_to_proto(lease: Lease) -> vision_pb2.LeaseGrant:
    """The lease as a message."""
    return vision_pb2.LeaseGrant(
        lease_id=lease.id, generation=lease.generation, duration_ms=int(lease.duration_s * 1000)
    )


async def until_released(
    messages: AsyncIterator[LeaseMessage],
    lease: Lease,
    renew: Callable[[], Awaitable[None]],
    release: Callable[[], Awaitable[None]],
    answer: type[Answer],
) -> AsyncIterator[Answer]:
    """Handles the reader's messages after its start; yields the answers.

    `renew` and `release` raise if the lease is not held at that moment; the reader then gets that error.
    Raises InvalidRequest for a release that names another lease. Ends after a release, or when the messages
    end: a crash and a half-close look the same, so the caller always abandons the lease afterwards, which
    does nothing after a release.
    """
    renewals = 0
    async for message in messages:
        if message.WhichOneof("message") == "renew":
            await renew()
            renewals += 1
            yield answer(renewed=vision_pb2.LeaseRenewed(sequence=renewals))
        elif message.WhichOneof("message") == "release":
            named = message.release.lease_id, message.release.generation
            if named != (lease.id, lease.generation):
                raise InvalidRequest(
                    f"release names lease {named[0]} of generation {named[1]}; the one granted here is "
                    f"{lease.id} of generation {lease.generation}",
                    "release",
                )
            await release()
            yield answer(released=vision_pb2.LeaseReleased(generation=lease.generation))
            return
