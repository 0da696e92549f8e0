from __future__ import annotations

import socket
import struct
import time

import httpx
import pytest
from prometheus_client import Counter

from services.common.errors import ConfigError
from services.common.metrics import MetricsServer, new_registry
from tests.support.endpoints import ENDPOINTS
from tests.support.waiting import scaled


@pytest.fixture
def registry():
    return new_registry("prefill")


@pytest.fixture
def server(registry):
    server = MetricsServer(registry, ENDPOINTS.bound_socket("127.0.0.1", 0, "--metrics-port"))
    yield server
    server.close()


def test_a_scrape_shows_the_numbers_of_the_registry(registry, server):
    Counter("perigee_example", "An example", registry=registry).inc(3)
    response = httpx.get(f"http://127.0.0.1:{server.port}/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert "perigee_example_total 3.0" in response.text


def test_every_process_tells_what_runs_in_it(server):
    text = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
    assert 'perigee_build_info{role="prefill",version="' in text
    assert "process_resident_memory_bytes" in text


def test_no_series_says_when_a_metric_was_made(registry, server):
    """They would be as many as the counters, and no question needs them."""
    Counter("perigee_example", "An example", ["kind"], registry=registry).labels("a").inc()
    assert "_created" not in httpx.get(f"http://127.0.0.1:{server.port}/metrics").text


def test_other_paths_are_not_found(server):
    assert httpx.get(f"http://127.0.0.1:{server.port}/").status_code == 404


def test_a_port_that_is_taken_is_named_with_the_flag_that_changes_it(server):
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{server.port}: the port is taken.*--metrics-port"):
        MetricsServer(
            new_registry("decode"), ENDPOINTS.bound_socket("127.0.0.1", server.port, "--metrics-port")
        )


def test_a_client_that_says_nothing_does_not_keep_others_waiting_for_long(server):
    with socket.create_connection(("127.0.0.1", server.port)):
        began = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=60).status_code == 200
        assert time.monotonic() - began < scaled(5)


def test_closing_frees_the_port(registry):
    first = MetricsServer(registry, ENDPOINTS.bound_socket("127.0.0.1", 0, "--metrics-port"))
    first.close()
    MetricsServer(registry, ENDPOINTS.bound_socket("127.0.0.1", first.port, "--metrics-port")).close()


def test_a_scraper_that_goes_or_talks_nonsense_leaves_the_page_and_the_log_as_they_were(
    registry, server, capfd, monkeypatch
):
    Counter("large", "x" * (8 << 20), registry=registry)
    monkeypatch.setattr("sys.stderr", None)  # as if it were closed
    for data in (
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000,
        b"\xff\r\n\r\n",
    ):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port)) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.sendall(data)
    page = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=20)
    assert "perigee_build_info" in page.text
    assert "Traceback" not in capfd.readouterr().err
