"""The numbers of a worker's /metrics page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from perigee.v1 import worker_pb2
from services.engine.serving.load_metrics import PAGE_STATES, LoadMetrics


def test_every_look_takes_the_load_anew():
    report = worker_pb2.LoadReport(running=2, waiting=3, queued_tokens=4096)
    count = 7
    registry = CollectorRegistry()
    LoadMetrics(registry, lambda: report, {"perigee_things": ("Things", lambda: count)})
    assert registry.get_sample_value("perigee_requests_running") == 2
    assert registry.get_sample_value("perigee_requests_waiting") == 3
    assert registry.get_sample_value("perigee_queued_tokens") == 4096
    assert registry.get_sample_value("perigee_draining") == 0
    assert registry.get_sample_value("perigee_things_total") == 7
    report, count = worker_pb2.LoadReport(running=1, draining=True), 8
    assert registry.get_sample_value("perigee_requests_running") == 1
    assert registry.get_sample_value("perigee_draining") == 1
    assert registry.get_sample_value("perigee_things_total") == 8


def test_pages_are_shown_by_state_and_no_state_is_missing():
    pages = worker_pb2.PageCounts(free=1, used=2, cached=3, leased=4, quarantined=5)
    registry = CollectorRegistry()
    LoadMetrics(registry, lambda: worker_pb2.LoadReport(pages=pages), {})
    values = {state: registry.get_sample_value("perigee_kv_pages", {"state": state}) for state in PAGE_STATES}
    assert values == {"free": 1, "used": 2, "cached": 3, "leased": 4, "quarantined": 5}
    assert set(PAGE_STATES) == {field.name for field in worker_pb2.PageCounts.DESCRIPTOR.fields}
