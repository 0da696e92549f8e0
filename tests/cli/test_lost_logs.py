"""A service whose log cannot be written goes on as if it could, for real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys

import pytest

from perigee.v1 import worker_pb2
from services.cli.connection.admin_client import AdminClient
from services.common.errors import PerigeeError
from tests.gateway.fakes import FakeDecode, FakeServer, FakeWorker
from tests.gateway.suite import NANO
from tests.support.endpoints import open_sync_channel
from tests.support.stack import free_port
from tests.support.waiting import until

PATIENCE_S = 60.0


class Loss:
    """A standard error, `given` as Popen takes it, that cannot be written to once `happen` was called."""

    def __init__(self, kind: str) -> None:
        self.given: dict[str, object] = {}
        self.reader: int | None = None
        if kind == "reader goes":
            self.reader, writer = os.pipe()
            self.given["stderr"] = os.fdopen(writer, "wb")
        elif kind == "disk full":
            self.given["stderr"] = open("/dev/full", "wb")  # noqa: SIM115
        else:
            self.given["preexec_fn"] = lambda: os.close(2)

    def happen(self) -> None:
        if self.reader is not None:
            os.close(self.reader)


@pytest.fixture(params=["closed", "reader goes", "disk full"])
def loss(request) -> Loss:
    return Loss(request.param)


async def state_of(operator: int, wanted: str) -> None:
    """Returns when the only worker's state is `wanted`."""

    def listed() -> str:
        with open_sync_channel(f"127.0.0.1:{operator}") as channel:
            (worker,) = AdminClient(channel).list_workers().workers
        return "reachable" if worker.reachable else "unreachable"

    async def is_listed() -> bool:
        with contextlib.suppress(PerigeeError):
            return await asyncio.to_thread(listed) == wanted
        return False

    await until(is_listed, PATIENCE_S)


async def test_a_gateway_without_a_log_finds_its_worker_again_and_ends_well(loss):
    operator = free_port()
    worker = await FakeServer.start(FakeWorker(worker_pb2.WORKER_ROLE_DECODE), FakeDecode(lambda *_: []))
    settings = {
        "model": NANO, "http-port": 0, "grpc-port": 0, "operator-port": operator, "vision": "", "prefill": "",
        "decode": worker.address,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "services.cli.main", "gateway", *words]
    gateway = subprocess.Popen(command, **loss.given)  # noqa: ASYNC220
    try:
        await state_of(operator, "reachable")
        loss.happen()
        for _ in range(2):
            await worker.stop()
            await state_of(operator, "unreachable")
            worker = await FakeServer.start(
                worker.worker, FakeDecode(lambda *_: []), int(worker.address.rpartition(":")[2])
            )
            await state_of(operator, "reachable")
        gateway.terminate()
        assert await asyncio.to_thread(gateway.wait, PATIENCE_S) == 0
    finally:
        gateway.kill()
        gateway.wait()
        await worker.stop()
