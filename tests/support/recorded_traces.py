"""A tracer that keeps what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.telemetry.timeline import Stage, Timeline
from services.common.telemetry.tracer import Attributes, Trace

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""A context as a caller may carry it."""


@dataclass(eq=False)
class RecordedTrace:
    """A span: what it began with, and how it ended."""

    name: str
    carried: dict[str, str]
    began: float
    traceparent: str
    trace_id: str = "0af7651916cd43dd8448eb211c80319c"
    stages: list[Stage] = field(default_factory=list)
    ended: float | None = None
    attributes: dict[str, str | int | float] = field(default_factory=dict)
    error: str = ""


class RecordedTracer:
    """A Tracer; `traces`: all that began, in order."""

    def __init__(self) -> None:
        self.traces: list[RecordedTrace] = []

    def begin(self, name: str, carried: Mapping[str, str], began: float) -> RecordedTrace:
        traceparent = f"00-0af7651916cd43dd8448eb211c80319c-{len(self.traces) + 1:016x}-01"
        self.traces.append(RecordedTrace(name, dict(carried), began, traceparent))
        return self.traces[-1]

    def end(
        self,
        trace: Trace,
        timeline: Timeline,
        ended: float,
        attributes: Attributes,
        error: str = "",
        within: Mapping[str, str] | None = None,
    ) -> None:
        assert isinstance(trace, RecordedTrace)
        assert trace.ended is None, "it ended twice"
        trace.stages, trace.ended = list(timeline.stages), ended
        trace.attributes, trace.error = dict(attributes), error
