"""What is kept of a request when it has ended: its line in the log and its times in the metrics."""

from __future__ import annotations

import structlog

from services.gateway.metrics import GatewayMetrics
from services.gateway.request_record import RequestRecord

log = structlog.get_logger()


class RequestLog:
    """Called once per request, whatever its door. Event loop only."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._log = log.bind()  # structlog makes a new logger for each line that `log` itself is given

    def ended(self, record: RequestRecord) -> None:
        """Logs the request's line, and measures it; all have the same figures."""
        line = record.line()
        self._log.info("request", **line)
        if record.reason:
            self._metrics.errors.inc(record.reason)
        if record.prompts:
            self._metrics.stages.observe(record.timeline)
            self._metrics.duration.observe(record.total_s)
