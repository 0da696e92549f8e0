"""An OTLP/HTTP collector in memory: what services export, for a benchmark or a test."""

from __future__ import annotations

import gzip
import threading
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.child import Pipe


@dataclass(frozen=True)
class Span:
    """A span as it came. Times are Unix nanoseconds, ids hexadecimal; `parent`: empty at the root."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    began: int
    ended: int
    attributes: dict[str, str]
    failure: str


class Collector:
    """A context manager: listens on a free port of the loopback interface and keeps every span."""

    def __init__(self, *, keeps: bool = True) -> None:
        """`keeps`: else it only reads them."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if keeps:
                    collector.take(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing."""

        self._lock = threading.Lock()
        self._traces: dict[str, list[Span]] = defaultdict(list)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a service exports to it, soon after each span."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "200"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: bytes) -> None:
        """Keeps the spans of an export."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(
                (
                    each.value.string_value
                    for each in resource.resource.attributes
                    if each.key == "perigee.role"
                ),
                "",
            )
            with self._lock:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self._traces[span.trace_id.hex()].append(
                            Span(
                                service, span.name, span.trace_id.hex(), span.span_id.hex(),
                                span.parent_span_id.hex(), span.start_time_unix_nano, span.end_time_unix_nano,
                                {each.key: str(each.value) for each in span.attributes}, span.status.message,
                            )
                        )  # fmt: skip

    def spans(self) -> list[Span]:
        """All spans so far."""
        with self._lock:
            return [span for spans in self._traces.values() for span in spans]

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace so far."""
        with self._lock:
            return list(self._traces.get(trace_id, ()))


def collect(pipe: Pipe) -> None:
    """A child of a benchmark: a collector that keeps nothing. Sends its variables; ends with the pipe."""
    with Collector(keeps=False) as collector:
        pipe.send({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.environment["OTEL_EXPORTER_OTLP_ENDPOINT"]})
        pipe.wait()
