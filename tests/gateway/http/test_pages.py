"""/v1/models, /health, /ready and /metrics."""

import asyncio

import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from perigee.v1 import worker_pb2
from services.common.metrics import MetricsServer
from services.gateway.config import GatewayConfig
from services.gateway.gateway import Gateway
from tests.gateway.fakes import FakeWorker
from tests.gateway.suite import NANO, open_suite, wait_until
from tests.support.endpoints import ENDPOINTS


async def test_every_served_name_is_listed_the_primary_one_first(suite):
    models = (await suite.http.get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["kimi", "kimi-alias"]
    assert models["object"] == "list"
    one = (await suite.http.get("/v1/models/kimi-alias")).json()
    assert (one["id"], one["object"]) == ("kimi-alias", "model")
    assert one["created"] == models["data"][0]["created"] > 0


async def test_an_unnamed_model_is_called_like_its_directory():
    async with open_suite(served_model_name="") as suite:
        models = (await suite.http.get("/v1/models")).json()
        assert [model["id"] for model in models["data"]] == ["kimi-nano"]


async def test_health_and_readiness_are_ok_when_every_role_has_a_worker(suite):
    for path in ("/health", "/ready"):
        answer = await suite.http.get(path)
        assert answer.status_code == 200
        body = answer.json()
        assert (body["status"], body["text"], body["images"], body["missing"]) == ("ok", True, True, [])
        assert body["tokenizer_only"] is False
        assert set(body["workers"].values()) == {"serving"}


async def health_of(suite, service):
    stub = health_pb2_grpc.HealthStub(suite.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return answer.status == health_pb2.HealthCheckResponse.SERVING


async def until_health(suite, service, expected):
    async def is_expected():
        return await health_of(suite, service) == expected

    await wait_until(is_expected)


@pytest.mark.parametrize(
    ("role", "text", "images"), [("vision", True, False), ("prefill", True, True), ("decode", False, False)]
)
async def test_without_a_role_readiness_says_what_cannot_be_served(suite, role, text, images):
    await until_health(suite, "images", True)
    await until_health(suite, "workers", True)
    await suite.workers["decode0" if role == "decode" else role].stop()
    await wait_until(lambda: suite.gateway.pool.missing_roles())
    live, ready = await suite.http.get("/health"), await suite.http.get("/ready")
    assert (live.status_code, ready.status_code) == (200, 200 if text else 503)
    assert live.json() == ready.json()
    body = ready.json()
    assert body["status"] == ("ok" if text else "unavailable")
    assert (body["text"], body["images"], body["missing"]) == (text, images, [role])
    await until_health(suite, "images", images)
    await until_health(suite, "workers", False)
    for service in ("", "text", "perigee.v1.ChatService"):
        await until_health(suite, service, text)


async def test_health_is_not_ok_before_text_could_be_served_for_the_first_time():
    config = GatewayConfig(model=str(NANO), http_port=0, grpc_port=0, decode="127.0.0.1:1", grace_seconds=0.2)
    gateway = Gateway(config, ENDPOINTS)
    await gateway.start()
    base = f"http://127.0.0.1:{gateway.http_port}"
    try:
        async with httpx.AsyncClient(base_url=base, trust_env=False) as http:
            for path in ("/health", "/ready"):
                answer = await http.get(path)
                assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    finally:
        await gateway.stop()


@pytest.fixture
def worker_page():
    registry = CollectorRegistry()
    pages = Gauge("perigee_kv_pages", "Pages by state", ["state"], registry=registry)
    pages.labels("free").set(7)
    Gauge("perigee_requests_running", "Being computed", registry=registry).set(5)
    server = MetricsServer(registry, ENDPOINTS.bound_socket("127.0.0.1", 0, "--metrics-port"))
    yield server
    server.close()


async def test_the_metrics_page_gathers_the_workers_pages_under_their_names(worker_page):
    worker = FakeWorker(worker_pb2.WORKER_ROLE_PREFILL, metrics_port=worker_page.port)
    async with open_suite(prefill_worker=worker) as suite:
        name = suite.workers["prefill"].address
        page = (await suite.http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    [free] = families["perigee_kv_pages"].samples
    assert (free.labels, free.value) == ({"state": "free", "worker": name}, 7)
    running = {
        sample.labels.get("worker"): sample.value for sample in families["perigee_requests_running"].samples
    }
    assert running == {None: 0, name: 5}
    assert page.count("# TYPE perigee_requests_running ") == 1


async def test_a_worker_whose_page_cannot_be_read_is_left_out_and_counted():
    worker = FakeWorker(worker_pb2.WORKER_ROLE_PREFILL, metrics_port=1)
    async with open_suite(prefill_worker=worker) as suite:
        await suite.http.get("/metrics")
        page = (await suite.http.get("/metrics")).text
        name = suite.workers["prefill"].address
    assert "perigee_requests_waiting 0.0" in page
    assert f'perigee_worker_metrics_unreachable_total{{worker="{name}"}} ' in page


async def test_the_series_of_a_worker_that_has_left_ends():
    worker = FakeWorker(worker_pb2.WORKER_ROLE_PREFILL, metrics_port=1)
    async with open_suite(prefill_worker=worker) as suite:
        address = suite.workers["prefill"].address
        assert f'unreachable_total{{worker="{address}"}} ' in (await suite.http.get("/metrics")).text
        suite.gateway.pool.find(address).discovered = False
        await suite.workers["prefill"].stop()
        await wait_until(lambda: suite.gateway.pool.find(address) is None)
        assert "unreachable_total{" not in (await suite.http.get("/metrics")).text


async def test_a_page_that_ends_early_is_no_page():
    async def cut(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        page = b"# TYPE perigee_kv_pages gauge\nperigee_kv_pages 7.0\n"
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(page) + 20) + page)
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    worker = FakeWorker(worker_pb2.WORKER_ROLE_PREFILL, metrics_port=server.sockets[0].getsockname()[1])
    async with open_suite(prefill_worker=worker) as suite:
        page = (await suite.http.get("/metrics")).text
        assert "perigee_kv_pages" not in page
        assert f'unreachable_total{{worker="{suite.workers["prefill"].address}"}} ' in page
    server.close()


async def test_latencies_and_outcomes_are_on_the_page(suite):
    await suite.chat()
    await suite.chat(model="nobody")
    page = (await suite.http.get("/metrics")).text
    assert 'perigee_requests_total{door="rest",outcome="ok"} 1.0' in page
    assert 'perigee_requests_total{door="rest",outcome="invalid"} 1.0' in page
    assert "perigee_time_to_first_token_seconds_count 1.0" in page
    assert "perigee_inter_token_latency_seconds_count " in page


async def test_failovers_and_the_state_of_every_worker_are_on_the_page():
    async with open_suite(decodes=2) as suite:
        suite.workers["decode0"].worker.load.draining = True
        link = suite.gateway.pool.find(suite.workers["decode0"].address)
        await wait_until(lambda: link.state == "draining")
        suite.decodes[1].fail_after, suite.decodes[1].deaths = 3, 1
        assert (await suite.chat()).status_code == 200
        page = (await suite.http.get("/metrics")).text
        assert "perigee_failovers_total 1.0" in page
        assert 'perigee_workers{role="decode",state="draining"} 1.0' in page
        assert 'perigee_workers{role="vision",state="serving"} 1.0' in page
        link.discovered = False
        await suite.workers["decode0"].stop()
        await wait_until(lambda: suite.gateway.pool.find(link.address) is None)
        assert 'state="draining"' not in (await suite.http.get("/metrics")).text
