"""What a service needs of a tracer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from services.common.telemetry.timeline import Timeline

Attributes: TypeAlias = Mapping[str, str | int | float]


class Trace(Protocol):
    """One service's span of a request, from its arrival to its end."""

    @property
    def traceparent(self) -> str:
        """The context for those that the service asks, as W3C's header of this name has it."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty if the trace is not recorded."""


class Tracer(Protocol):
    """Records traces. Both calls may come from any thread; neither blocks."""

    def begin(self, name: str, carried: Mapping[str, str], began: float) -> Trace:
        """Begins a span below the context in `carried`, W3C's headers by their lower-case names; without a
        valid one it begins a trace. `began`: seconds of the monotonic clock.
        """

    def end(
        self,
        trace: Trace,
        timeline: Timeline,
        ended: float,
        attributes: Attributes,
        error: str = "",
        within: Mapping[str, str] | None = None,
    ) -> None:
        """Ends the span, with one below it for each stage of the timeline, whose clock must be the monotonic
        one. `error`: the reason of a failure; `within`: stages that lie within another one, by name.
        """


def gone_on(tracer: Tracer | None, name: str, traceparent: str, began: float) -> Trace | None:
    """Begins the span of a worker's part in a request; None without a tracer, or if the message carried no
    context. `began`: as for `Tracer.begin`.
    """
    if tracer is None or not traceparent:
        return None
    return tracer.begin(name, {"traceparent": traceparent}, began)
