"""The suite in containers with docker-compose.secure.yml."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from google.protobuf import json_format

from perigee.v1 import admin_pb2
from tests.compose.conftest import ONE
from tests.support.compose import WORKERS, Compose
from tests.support.traffic import chat
from tests.support.waiting import wait_until


class SecureCompose(Compose):
    """Operators have a service of their own, for they need a certificate."""

    def workers(self) -> list[admin_pb2.WorkerStatus]:
        listed = self.run("run", "--rm", "-T", "operator", "workers", "--json", "--address", "gateway:50049")
        listed = listed[listed.index("{") : listed.rindex("}") + 1]
        return list(json_format.Parse(listed, admin_pb2.ListWorkersResponse()).workers)


@pytest.fixture(scope="module")
def secure(repository: Path) -> Iterator[SecureCompose]:
    suite = SecureCompose(repository, os.environ["PERIGEE_COMPOSE"], "docker-compose.secure.yml")
    suite.run("build")
    try:
        suite.up(ONE)
        suite.wait_until_whole()
        yield suite
    finally:
        suite.down()


def test_clients_are_answered_by_tls_and_pages_move_between_workers_with_certificates(secure):
    ca = secure.execute("gateway", "cat", "/certs/public/ca.crt")
    url = f"https://localhost:{secure.http_port}"
    with httpx.Client(base_url=url, verify=ssl.create_default_context(cadata=ca), trust_env=False) as client:
        answer = client.post("/v1/chat/completions", json=chat(1, images=1, max_tokens=20), timeout=120)
        assert answer.json()["usage"]["completion_tokens"] == 20
        assert "perigee_kv_transfer_bytes_total" in client.get("/metrics").text
    assert all(worker.mtls for worker in secure.workers())
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{secure.http_port}/health", trust_env=False)


def test_in_the_network_of_the_containers_nobody_without_a_certificate_reaches_a_worker(secure):
    for role, port in zip(WORKERS, (50051, 50052, 50053), strict=True):
        ask = f"perigee health {role}:{port} --role {role}"
        secure.execute("gateway", "sh", "-c", ask)
        secure.execute("gateway", "sh", "-c", f"! env -u PERIGEE_TLS_DIR {ask}")


def test_a_service_sees_its_own_key_alone(secure):
    assert secure.execute("decode", "ls", "/certs").split() == ["decode"]
    secure.execute("decode", "sh", "-c", "! touch /certs/decode/x 2>/dev/null")


def test_new_certificates_are_taken_while_everything_runs(secure):
    before = {role: secure.containers(role) for role in WORKERS}
    secure.run("run", "--rm", "-T", "certs")
    wait_until(
        lambda: all("new certificates in use" in secure.run("logs", role) for role in (*WORKERS, "gateway")),
        60,
        every_s=1.0,
    )
    assert {role: secure.containers(role) for role in WORKERS} == before
    assert all(worker.reachable for worker in secure.workers())
