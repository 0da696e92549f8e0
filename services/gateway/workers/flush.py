"""Flushes the workers' caches."""

from __future__ import annotations

import asyncio

import grpc

from perigee.v1 import admin_pb2, worker_pb2
from services.common.rpc.status import from_rpc_error
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import WorkerPool

_TIMEOUT_S = 10.0


async def flush_workers(pool: WorkerPool) -> list[admin_pb2.FlushedWorker]:
    """Flushes all workers at once; returns what each dropped, or its error."""
    return list(await asyncio.gather(*(_flush(link) for link in pool.links)))


async def _flush(link: WorkerLink) -> admin_pb2.FlushedWorker:
    flushed = admin_pb2.FlushedWorker(address=link.address, role=link.role)
    try:
        dropped = await link.stub.Flush(worker_pb2.FlushRequest(), timeout=_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        flushed.error = from_rpc_error(error).message
    else:
        flushed.pages, flushed.embeddings = dropped.pages, dropped.embeddings
    return flushed
