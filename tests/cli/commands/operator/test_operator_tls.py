"""An operator's commands to servers that know callers by certificates."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perigee.v1 import admin_pb2, admin_pb2_grpc
from services.cli.main import main
from services.common.rpc.health import add_health
from tests.support.certificates import Deployment
from tests.support.endpoints import ENDPOINTS


class Admin(admin_pb2_grpc.AdminServiceServicer):
    async def ListWorkers(self, request, context):
        return admin_pb2.ListWorkersResponse(
            workers=[
                admin_pb2.WorkerStatus(address="10.0.0.1:50051", reachable=True, discovered=True, mtls=True)
            ]
        )


class Serving:
    """A server with AdminService and health on a loop of its own thread."""

    def __init__(self, endpoints):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.address = self._do(self._start(endpoints))

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self, endpoints):
        self._server = endpoints.grpc_server()
        admin_pb2_grpc.add_AdminServiceServicer_to_server(Admin(), self._server)
        health = await add_health(self._server, [])
        port = endpoints.bind_grpc(self._server, "127.0.0.1", 0)
        await self._server.start()
        await health.set_serving()
        return f"127.0.0.1:{port}"

    def close(self):
        self._do(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path)


@pytest.fixture
def serve():
    opened = []

    def begin(endpoints):
        opened.append(Serving(endpoints))
        return opened[-1].address

    yield begin
    for each in opened:
        each.close()


def test_an_operator_s_certificate_opens_the_operator_port(deployment, serve, capsys):
    address = serve(deployment.endpoints("gateway"))
    own = str(deployment.issue("operator"))
    assert main(["workers", "--address", address, "--tls-dir", own]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[2:4] == ["serving", "mtls"]


def test_the_directory_may_come_from_the_environment(deployment, serve, monkeypatch):
    address = serve(deployment.endpoints("gateway"))
    monkeypatch.setenv("PERIGEE_TLS_DIR", str(deployment.issue("operator")))
    assert main(["workers", "--address", address]) == 0


def test_without_a_certificate_the_operator_port_is_closed(deployment, serve, capsys):
    address = serve(deployment.endpoints("gateway"))
    assert main(["workers", "--address", address]) == 1
    assert "perigee workers: " in capsys.readouterr().err


def test_the_certificate_of_a_service_is_not_an_operator_s(deployment, capsys):
    own = str(deployment.issue("decode"))
    assert main(["workers", "--address", "127.0.0.1:1", "--tls-dir", own]) == 2
    assert "must have the URI and DNS name spiffe://perigee.internal/perigee/operator" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("own", ["operator", "decode"])
def test_a_worker_is_asked_for_health_by_an_operator_and_by_itself(deployment, serve, own):
    address = serve(deployment.endpoints("decode"))
    flags = ["--role", "decode", "--tls-dir", str(deployment.issue(own))]
    assert main(["health", address, *flags]) == 0


def test_health_of_a_server_that_is_another_role_is_not_believed(deployment, serve, capsys):
    address = serve(deployment.endpoints("decode"))
    own = str(deployment.issue("operator"))
    assert main(["health", address, "--role", "prefill", "--tls-dir", own]) == 1
    assert "is not serving: UNAVAILABLE" in capsys.readouterr().err


def test_plain_tcp_on_one_machine_needs_no_certificate(serve, capsys):
    assert main(["health", serve(ENDPOINTS)]) == 0
