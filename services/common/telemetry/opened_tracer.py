"""Whether a service has a tracer: OpenTelemetry's variables decide."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from services.common.errors import ConfigError
from services.common.telemetry.tracer import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTER = "OTEL_TRACES_EXPORTER"


@contextmanager
def opened_tracer(role: str, environ: Mapping[str, str]) -> Iterator[Tracer | None]:
    """Gives a service's tracer for the length of the block; None where no variable asks for traces. Nothing
    of OpenTelemetry is imported then.

    At the end spans are still exported for up to a second. Raises ConfigError naming the variable that is
    wrong, or if OpenTelemetry is not installed.
    """
    asks = _asks_for_traces(environ)
    if not asks:
        yield None
        return
    if importlib.util.find_spec("opentelemetry") is None:
        raise ConfigError(
            f"{asks} is set, but the extra `otel` is not installed: install it, or set OTEL_SDK_DISABLED=true"
        )
    from services.common.telemetry.otel import OtelTracer, otlp_exporter

    tracer = OtelTracer(role, otlp_exporter())
    try:
        yield tracer
    finally:
        tracer.close()


def _asks_for_traces(environ: Mapping[str, str]) -> str:
    """The variable that asks for traces; empty if none does. Raises ConfigError."""
    exporter = environ.get(_EXPORTER, "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return ""
    if exporter not in ("", "otlp"):
        raise ConfigError(f"{_EXPORTER}: {exporter!r} is not known here; use otlp or none")
    set_ones = [name for name in _ENDPOINTS if environ.get(name)]
    if not set_ones and not exporter:
        return ""
    for name in set_ones:
        if not environ[name].startswith(("http://", "https://")):
            raise ConfigError(f"{name}: {environ[name]!r} is no URL, such as http://collector:4318")
    protocol = next((name for name in _PROTOCOLS if environ.get(name)), "")
    if protocol and environ[protocol] != "http/protobuf":
        raise ConfigError(f"{protocol}: {environ[protocol]!r} is not known here; use http/protobuf")
    return (set_ones or [_EXPORTER])[0]
