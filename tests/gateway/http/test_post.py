"""What every POST route does around its own work."""

import asyncio

import structlog
from prometheus_client import CollectorRegistry

from services.gateway.admission import Admission
from services.gateway.byte_budget import ByteBudget
from services.gateway.http.answers.keep_alive import KeepAlive
from services.gateway.http.body import BodyReader
from services.gateway.http.post import PostEndpoint
from services.gateway.metrics import GatewayMetrics
from services.gateway.request_log import RequestLog
from tests.support.waiting import let_tasks_run


async def test_requests_that_end_together_are_all_answered_before_a_line_is_logged():
    done, end = [], asyncio.Event()

    async def send(message):
        done.append(message["type"])

    async def answer(body, ticket, reply):
        await end.wait()
        await reply.json([])

    def receive():
        body = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

        async def next_message():
            return next(body, None) or await asyncio.Event().wait()

        return next_message

    metrics = GatewayMetrics(CollectorRegistry())
    bodies = BodyReader(ByteBudget(1000), 1000, 10.0)
    scope = {
        "type": "http",
        "path": "/v1/chat/completions",
        "headers": [],
        "perigee.request_name": "mine",
        "perigee.tenant": None,
    }
    with structlog.testing.capture_logs() as lines:
        endpoint = PostEndpoint(
            answer, Admission(2, metrics), bodies, KeepAlive("none", 1.0), RequestLog(metrics)
        )
        calls = [asyncio.create_task(endpoint(scope, receive(), send)) for _ in range(2)]
        await let_tasks_run()
        end.set()
        while len(done) < 4:
            await asyncio.sleep(0)
        assert lines == []
        await asyncio.gather(*calls)
        await let_tasks_run()
    assert [line["status"] for line in lines] == [200, 200]
