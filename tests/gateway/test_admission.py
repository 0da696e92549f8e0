"""The bound on requests in flight."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import DeadlineExceeded, InvalidRequest, Overloaded, ShuttingDown, Unavailable
from services.gateway.admission import Admission
from services.gateway.metrics import GatewayMetrics
from tests.support.manual_clock import ManualClock
from tests.support.waiting import let_tasks_run


@pytest.fixture
def metrics():
    return GatewayMetrics(CollectorRegistry())


def count(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels) or 0


async def test_the_request_beyond_the_limit_is_shed_with_a_delay(metrics):
    admission = Admission(1, metrics)
    with admission.enter("rest"):
        with pytest.raises(Overloaded) as caught, admission.enter("rest"):
            pass
        assert caught.value.retry_after_s >= 1
    with admission.enter("rest"):
        pass
    assert count(metrics, "perigee_requests_total", door="rest", outcome="overloaded") == 1
    assert count(metrics, "perigee_requests_total", door="rest", outcome="ok") == 2


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidRequest("x"), "invalid"),
        (Unavailable("x"), "unavailable"),
        (DeadlineExceeded("x"), "deadline"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (ZeroDivisionError(), "defect"),
    ],
)
async def test_a_request_is_counted_by_how_it_ended(metrics, error, outcome):
    admission = Admission(1, metrics)
    with pytest.raises(type(error)), admission.enter("grpc"):
        raise error
    assert count(metrics, "perigee_requests_total", door="grpc", outcome=outcome) == 1
    with admission.enter("grpc"):
        pass


async def test_a_request_waits_until_its_first_token_and_then_runs(metrics):
    clock = ManualClock()
    admission = Admission(1, metrics, clock)
    with admission.enter("rest") as ticket:
        assert count(metrics, "perigee_requests_waiting") == 1
        ticket.tokens(0, clock.now + 0.5)
        ticket.tokens(0, clock.now + 0.75)
        assert count(metrics, "perigee_requests_waiting") == 0
        assert count(metrics, "perigee_requests_running") == 1
    assert count(metrics, "perigee_requests_running") == 0
    assert count(metrics, "perigee_time_to_first_token_seconds_count") == 1
    assert count(metrics, "perigee_time_to_first_token_seconds_sum") == 0.5
    assert count(metrics, "perigee_inter_token_latency_seconds_count") == 1
    assert count(metrics, "perigee_inter_token_latency_seconds_sum") == 0.25


async def test_once_closed_nothing_enters_and_idle_waits_for_the_last_one_out(metrics):
    admission = Admission(2, metrics)
    with admission.enter("rest"):
        admission.close()
        with pytest.raises(ShuttingDown), admission.enter("rest"):
            pass
        idle = asyncio.create_task(admission.idle(60.0))
        await let_tasks_run()
        assert not idle.done()
    assert await asyncio.wait_for(idle, 30)


@pytest.mark.virtual_time
async def test_idle_gives_up_when_a_request_stays_inside(metrics):
    admission = Admission(2, metrics)
    with admission.enter("rest"):
        assert not await admission.idle(3.0)


async def test_a_request_that_is_cut_off_counts_as_unavailable(metrics):
    admission = Admission(2, metrics)

    async def run():
        with admission.enter("rest"):
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await let_tasks_run()
    assert admission.cut_off() == 1
    with pytest.raises(ShuttingDown):
        await task
    assert await admission.idle(1.0)
    assert count(metrics, "perigee_requests_total", door="rest", outcome="unavailable") == 1
