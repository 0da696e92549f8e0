"""What is kept of a request when it has ended: its line in the log, its times in the metrics, its trace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog

from services.common.telemetry.tracer import Tracer
from services.gateway.metrics import GatewayMetrics
from services.gateway.request_record import WITHIN, RequestRecord

log = structlog.get_logger()

_CARRIERS = {b"traceparent": "traceparent", b"tracestate": "tracestate"} | {
    name: name for name in ("traceparent", "tracestate")
}


class RequestLog:
    """Called when a request comes and when it has ended, whatever its door. Event loop only."""

    def __init__(self, metrics: GatewayMetrics, tracer: Tracer | None = None) -> None:
        """`tracer`: None where nobody wants traces."""
        self._metrics = metrics
        self._tracer = tracer
        self.rebind()

    def rebind(self) -> None:
        """Takes over the level of the logs, which has changed."""
        self._log = log.bind()  # structlog makes a new logger for each line that `log` itself is given

    def trace(self, record: RequestRecord, fields: Iterable[tuple[Any, Any]]) -> None:
        """Begins the request's span. `fields`: its headers or metadata, in which a trace may be carried."""
        if self._tracer is None:
            return
        carried = {
            _CARRIERS[name]: value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for name, value in fields
            if name in _CARRIERS
        }
        record.trace = self._tracer.begin(f"{record.door} {record.route}", carried, record.arrived)

    def ended(self, record: RequestRecord) -> None:
        """Logs the request's line, measures it, and ends its span; all have the same figures."""
        line = record.line()
        self._log.info("request", **line)
        if record.reason:
            self._metrics.errors.inc(record.reason)
        if record.prompts:
            self._metrics.stages.observe(record.timeline)
            self._metrics.duration.observe(record.total_s)
        if record.trace is not None and self._tracer is not None:
            self._tracer.end(
                record.trace, record.timeline, record.ended_at, line, record.reason, within=WITHIN
            )
