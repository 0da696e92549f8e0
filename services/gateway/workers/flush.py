"""Dropping what workers have cached and nobody holds."""

from __future__ import annotations

import asyncio

import grpc

from perigee.v1 import worker_pb2
from services.common.errors import Unavailable
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import WorkerPool

_TIMEOUT_S = 10.0


async def flush_workers(pool: WorkerPool) -> worker_pb2.FlushResponse:
    """Flushes every worker; what was dropped, all together. Running requests keep theirs.

    Raises Unavailable naming the workers that could not be reached; the others have been flushed.
    """
    links = pool.links
    answers = await asyncio.gather(*(_flush(link) for link in links))
    failed = [link.address for link, answer in zip(links, answers, strict=True) if answer is None]
    if failed:
        raise Unavailable(f"not flushed, because unreachable: {', '.join(failed)}; all others were")
    return worker_pb2.FlushResponse(
        pages=sum(answer.pages for answer in answers if answer),
        embeddings=sum(answer.embeddings for answer in answers if answer),
    )


async def _flush(link: WorkerLink) -> worker_pb2.FlushResponse | None:
    try:
        answer: worker_pb2.FlushResponse = await link.stub.Flush(
            worker_pb2.FlushRequest(), timeout=_TIMEOUT_S
        )
    except grpc.aio.AioRpcError:
        return None
    return answer
