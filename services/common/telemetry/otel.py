"""Traces by OpenTelemetry's SDK. Imported only where traces are wanted."""

from __future__ import annotations

import importlib.metadata
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.ids import incarnation
from services.common.telemetry.timeline import Stage, Timeline
from services.common.telemetry.tracer import Attributes, Trace

_CLOSE_S = 1.0
# The exporter encodes so many spans at once, and holds the interpreter meanwhile: 1 ms.
_BATCH = 128
_BATCH_VARIABLE = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"


@dataclass(slots=True)
class OtelTrace:
    """A span that has begun. `epoch_ns`: what the monotonic clock's zero is in Unix time."""

    span: Span
    epoch_ns: int

    @property
    def traceparent(self) -> str:
        """See Trace."""
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @property
    def trace_id(self) -> str:
        """See Trace."""
        context = self.span.get_span_context()
        return f"{context.trace_id:032x}" if context.trace_flags.sampled else ""

    def at(self, seconds: float) -> int:
        """A time of the monotonic clock in Unix nanoseconds."""
        return self.epoch_ns + int(seconds * 1e9)


class OtelTracer:
    """Spans wait in a bounded queue for a thread that exports them; those that find it full are dropped.

    Sampler, queue and exporter follow OpenTelemetry's variables.
    """

    def __init__(self, role: str, exporter: SpanExporter) -> None:
        """`exporter` gets what is sampled, on another thread."""
        batch = None if os.environ.get(_BATCH_VARIABLE) else _BATCH
        self._provider = TracerProvider(resource=_resource(role), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=batch))
        self._tracer = self._provider.get_tracer("perigee", importlib.metadata.version("perigee"))
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, carried: Mapping[str, str], began: float) -> OtelTrace:
        """See Tracer."""
        epoch_ns = time.time_ns() - time.monotonic_ns()
        parent = self._propagator.extract(carried, context=Context())
        span = self._tracer.start_span(
            name, context=parent, kind=SpanKind.SERVER, start_time=epoch_ns + int(began * 1e9)
        )
        return OtelTrace(span, epoch_ns)

    def end(
        self,
        trace: Trace,
        timeline: Timeline,
        ended: float,
        attributes: Attributes,
        error: str = "",
        within: Mapping[str, str] | None = None,
    ) -> None:
        """See Tracer."""
        assert isinstance(trace, OtelTrace)
        span = trace.span
        if not span.is_recording():
            return
        self._add_stages(trace, timeline, within or {})
        span.set_attributes({f"perigee.{name}": value for name, value in attributes.items()})
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(trace.at(ended))

    def close(self) -> None:
        """Exports what waits, for at most a second; what is left then is lost."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)

    def _add_stages(self, trace: OtelTrace, timeline: Timeline, within: Mapping[str, str]) -> None:
        """Adds a span for each stage: those that hold others first."""
        root = set_span_in_context(trace.span, Context())
        holders: list[tuple[Stage, Context]] = []
        for inner in (False, True):
            for stage in timeline.stages:
                name, began, ended = stage
                if (name in within) is not inner:
                    continue
                context = root
                for (holder, first, last), below in holders if inner else ():
                    if holder == within[name] and first <= began <= last:
                        context = below
                span = self._tracer.start_span(name, context=context, start_time=trace.at(began))
                span.end(trace.at(ended))
                if not inner:
                    holders.append((stage, set_span_in_context(span, Context())))


def otlp_exporter() -> SpanExporter:
    """An exporter to the OTLP collector that the variables name."""
    return OTLPSpanExporter()


def _resource(role: str) -> Resource:
    """Who emits the spans. The service's name is the variables', or perigee-ROLE."""
    given = Resource.create({})
    name = str(given.attributes.get("service.name", ""))
    own = {
        "service.version": importlib.metadata.version("perigee"),
        "service.instance.id": incarnation(role),
        "perigee.role": role,
    }
    if not name or name.startswith("unknown_service"):
        own["service.name"] = f"perigee-{role}"
    return given.merge(Resource(own))
