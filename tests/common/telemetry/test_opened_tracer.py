"""OpenTelemetry's variables decide whether there are traces; without them none of it is imported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from services.common.errors import ConfigError
from services.common.telemetry.opened_tracer import opened_tracer

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
SCRIPT = """
import sys
from services.common.telemetry.opened_tracer import opened_tracer
import services.gateway.main, services.vision.main, services.prefill.main, services.decode.main
with opened_tracer("gateway", {variables!r}) as tracer:
    print(tracer is not None, any(name.partition(".")[0] == "opentelemetry" for name in sys.modules))
"""


@pytest.mark.parametrize(
    ("variables", "printed"),
    [({}, "False False"), ({"PATH": "/bin"}, "False False"), (ENDPOINT, "True True")],
)
def test_a_service_imports_opentelemetry_only_if_a_variable_asks_for_traces(variables, printed):
    script = SCRIPT.format(variables=variables)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == printed


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SERVICE_NAME": "perigee"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "True"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_nobody_asks(variables):
    with opened_tracer("decode", variables) as tracer:
        assert tracer is None


@pytest.mark.parametrize(
    "variables",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://127.0.0.1:1/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_somebody_asks(variables):
    with opened_tracer("decode", variables) as tracer:
        assert tracer is not None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, r"OTEL_TRACES_EXPORTER: 'zipkin'.*otlp or none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318'"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, r"_PROTOCOL: 'grpc'.*http/protobuf"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named_with_what_would_be_right(variables, message):
    with pytest.raises(ConfigError, match=message), opened_tracer("decode", variables):
        pass


def test_a_missing_package_is_named_with_both_ways_out(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(
            ConfigError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*extra `otel`.*OTEL_SDK_DISABLED"
        ),
        opened_tracer("decode", ENDPOINT),
    ):
        pass
