"""Suites that a comparison starts: separate pools, and one pool of workers that do both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.cli.bench.records import AGGREGATED
from services.cli.run.child import Child, perigee
from services.cli.run.plan import LOOPBACK, child_environment
from services.cli.run.ports import take_ports
from services.cli.run.readiness import until_healthy
from services.common.errors import ConfigError, Unavailable
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import Role

_START_S = 300.0
_STOP_S = 30.0
_FLAG = "--compare"


@dataclass(frozen=True)
class Worker:
    """A worker with its part of the machine. `pages`: of its KV cache; `chunk_tokens`: 0 for the default."""

    role: Role
    cores: tuple[int, ...]
    pages: int
    chunk_tokens: int = 0
    aggregated: bool = False


@dataclass(frozen=True)
class Arrangement:
    """Workers on this machine, and what the arrangement is called. The gateway may use all `cores`."""

    label: str
    workers: tuple[Worker, ...]
    cores: tuple[int, ...]


def disaggregated(cores: Sequence[int], prefill: int, decode: int, pages: int) -> Arrangement:
    """Returns an arrangement of two pools: of all cores and pages, each worker has an equal part."""
    parts = _parts(cores, prefill + decode)
    roles: list[Role] = ["prefill" if number < prefill else "decode" for number in range(len(parts))]
    share = _share(pages, len(parts))
    workers = tuple(Worker(role, part, share) for role, part in zip(roles, parts, strict=True))
    return Arrangement("disaggregated", workers, tuple(cores))


def aggregated(cores: Sequence[int], workers: int, pages: int, chunk_tokens: int) -> Arrangement:
    """Returns an arrangement of one pool, whose workers compute prompts and decode: of all cores and pages,
    each has an equal part.
    """
    parts = _parts(cores, workers)
    share = _share(pages, workers)
    pool = tuple(Worker("decode", part, share, chunk_tokens, True) for part in parts)
    return Arrangement(f"{AGGREGATED}{chunk_tokens}", pool, tuple(cores))


def _parts(cores: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    if workers > len(cores):
        raise ConfigError(f"{_FLAG}: {workers} workers need a core each; {len(cores)} may be used here")
    each = len(cores) // workers
    return [tuple(cores[place * each : (place + 1) * each]) for place in range(workers)]


def _share(pages: int, workers: int) -> int:
    if pages < workers:
        raise ConfigError(f"--kv-pages: {pages} pages cannot be shared by {workers} workers")
    return pages // workers


@asynccontextmanager
async def started(arrangement: Arrangement, model: Path, logs: Path) -> AsyncIterator[tuple[str, str]]:
    """Starts an arrangement; yields the URLs of its REST and gRPC ports; ends it. Each process has a log in
    `logs`, an existing directory.

    Raises ConfigError if `model` is no checkpoint, Unavailable if a process does not start.
    """
    if not (model / "config.json").is_file():
        raise ConfigError(f"--checkpoint: {model} is not a checkpoint directory (it has no config.json)")
    endpoints = Endpoints("operator")
    with ExitStack() as held:
        ports = take_ports(endpoints, LOOPBACK, 0, 2 * len(arrangement.workers) + 3, _FLAG, held)
    addresses: dict[Role, list[str]] = {"prefill": [], "decode": []}
    async with AsyncExitStack() as stack:
        for number, worker in enumerate(
            sorted(arrangement.workers, key=lambda each: each.role, reverse=True)
        ):
            port, metrics_port = ports[2 * number : 2 * number + 2]
            words = _worker_words(worker, model, port, metrics_port, addresses["prefill"])
            log = logs / f"{worker.role}-{number}.log"
            await _start(stack, endpoints, worker.role, words, f"{LOOPBACK}:{port}", worker.cores, log)
            addresses[worker.role].append(f"{LOOPBACK}:{port}")
        http_port, grpc_port, operator_port = ports[-3:]
        words = ["gateway", "--model", str(model), "--vision", ""]
        words += ["--prefill", ",".join(addresses["prefill"]), "--decode", ",".join(addresses["decode"])]
        words += ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
        words += ["--operator-port", str(operator_port)]
        operator = f"{LOOPBACK}:{operator_port}"
        log = logs / "gateway.log"
        await _start(stack, endpoints, "gateway", words, operator, arrangement.cores, log)
        yield f"http://{LOOPBACK}:{http_port}", f"grpc://{LOOPBACK}:{grpc_port}"


def _worker_words(
    worker: Worker, model: Path, port: int, metrics_port: int, prefill: Sequence[str]
) -> list[str]:
    words = [worker.role, "--model", str(model), "--host", LOOPBACK, "--port", str(port)]
    words += ["--metrics-port", str(metrics_port), "--kv-pages", str(worker.pages)]
    if worker.role == "decode":
        words += ["--prefill-pool", ",".join(prefill)]
    if worker.aggregated:
        words.append("--aggregated")
    if worker.chunk_tokens:
        words += ["--chunk-tokens", str(worker.chunk_tokens)]
    return words


async def _start(
    stack: AsyncExitStack,
    endpoints: Endpoints,
    role: Role,
    words: Sequence[str],
    address: str,
    cores: Sequence[int],
    log: Path,
) -> None:
    """Starts a process on some cores and waits until it is healthy; `stack` ends it."""
    child = Child(perigee(*words), child_environment(os.environ), log)
    await child.start()
    stack.push_async_callback(child.stop, _STOP_S)
    if child.pid is not None:
        os.sched_setaffinity(child.pid, cores)
    healthy = asyncio.ensure_future(until_healthy(endpoints, role, address))
    ended = asyncio.ensure_future(child.wait())
    try:
        await asyncio.wait((healthy, ended), timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        if not healthy.done() or ended.done():
            tail = "\n".join(child.tail()[-5:])
            raise Unavailable(f"a {role} did not start; {log} ends with:\n{tail}")
        healthy.result()
    finally:
        healthy.cancel()
        ended.cancel()
