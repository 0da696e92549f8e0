from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.cli.main import main
from tests.support.waiting import scaled

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server():
    """A started server without a service, and its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    yield server, f"127.0.0.1:{port}"
    server.stop(None)


def start(server, status):
    servicer = health.HealthServicer()
    servicer.set("", status)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.start()


def test_a_serving_server_is_healthy(server, capsys):
    start(server[0], SERVING)
    assert main(["health", server[1]]) == 0
    assert capsys.readouterr().out == f"{server[1]} is serving\n"


def test_a_server_that_does_not_serve_is_not_healthy_and_says_what_it_said(server, capsys):
    start(server[0], NOT_SERVING)
    assert main(["health", server[1]]) == 1
    assert capsys.readouterr().err == f"perigee health: {server[1]} is not serving: NOT_SERVING\n"


def test_a_server_that_drains_says_so(server, capsys):
    servicer = health.HealthServicer()
    servicer.set("", SERVING)
    servicer.set("draining", SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server[0])
    server[0].start()
    what = "draining: it admits no new requests and finishes those it has"
    assert main(["health", server[1]]) == 0
    assert capsys.readouterr().out == f"{server[1]} is serving, {what}\n"
    servicer.set("", NOT_SERVING)
    assert main(["health", server[1]]) == 1
    assert capsys.readouterr().err == f"perigee health: {server[1]} is not serving: {what}\n"


def test_a_server_without_health_checks_is_not_healthy(server, capsys):
    server[0].start()
    assert main(["health", server[1]]) == 1
    assert "is not serving: UNIMPLEMENTED" in capsys.readouterr().err


def test_a_server_that_never_answers_is_given_up_within_seconds(capsys):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        began = time.monotonic()
        assert main(["health", address]) == 1
    assert time.monotonic() - began < scaled(5)
    error = capsys.readouterr().err
    assert f"{address} is not serving: " in error
    assert error.count("\n") == 1


def test_a_port_nobody_listens_at_is_named_in_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert main(["health", address]) == 1
    error = capsys.readouterr().err
    assert f"nothing answers at {address}" in error
    assert error.count("\n") == 1


def test_an_address_that_is_none_is_a_wrong_argument(capsys):
    assert main(["health", "nowhere"]) == 2
    assert "ADDRESS: 'nowhere' is not host:port" in capsys.readouterr().err


def test_a_server_that_does_not_serve_is_alive(server, capsys):
    start(server[0], NOT_SERVING)
    assert main(["health", server[1], "--alive"]) == 0
    assert capsys.readouterr().out == f"{server[1]} is not serving: NOT_SERVING\n"


def test_a_server_that_does_not_answer_is_not_alive(capsys):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert main(["health", f"127.0.0.1:{mute.getsockname()[1]}", "--alive"]) == 1
    assert "DEADLINE_EXCEEDED" in capsys.readouterr().err


def test_an_ability_has_a_health_of_its_own(server, capsys):
    servicer = health.HealthServicer()
    servicer.set("", SERVING)
    servicer.set("workers", NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server[0])
    server[0].start()
    assert main(["health", server[1]]) == 0
    assert main(["health", server[1], "--ability", "workers"]) == 1
    assert main(["health", server[1], "--ability", "nothing"]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err
