"""Prometheus metrics of one process, and the small HTTP server of a worker's metrics."""

from __future__ import annotations

import importlib.metadata
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.process_collector import ProcessCollector

log = structlog.get_logger()

# The server handles one scraper at a time; a stalled one must not delay the next for long.
_REQUEST_TIMEOUT_S = 2.0


def new_registry(role: str) -> CollectorRegistry:
    """Returns a registry with metrics of the process (CPU, memory, files) and the build; one per process.

    From now on no metric of the process has a series of when it was made: it would double the counters.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge(
        "perigee_build_info",
        "Constant 1; the labels give version and role",
        ["version", "role"],
        registry=registry,
    )
    build.labels(version=importlib.metadata.version("perigee"), role=role).set(1)
    return registry


def render(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Returns the registry as a /metrics body, and its content type."""
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Server(HTTPServer):
    """Listens on a socket that is bound already, and closes it at the end."""

    def __init__(self, bound: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(bound.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.server_activate()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that disconnect; logs all other errors, which are bugs."""
        if not isinstance(sys.exception(), OSError):
            log.exception("metrics request failed unexpectedly")


class MetricsServer:
    """Serves GET /metrics on its own thread, one request at a time, each for at most two seconds."""

    def __init__(self, registry: CollectorRegistry, bound: socket.socket) -> None:
        """`bound`: a TCP socket, which belongs to the server from now on."""

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_TIMEOUT_S

            def do_GET(self) -> None:
                found = self.path.split("?")[0] == "/metrics"
                body, kind = render(registry) if found else (b"try /metrics\n", "text/plain")
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing: scrapes arrive every few seconds."""

        self._server = _Server(bound, Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving and frees the port. Idempotent."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
