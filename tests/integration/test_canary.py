"""What clients write stands in no log and no metric, at any level, whether it is right or wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from benchmarks.collector import Collector
from perigee.v1 import (
    admin_pb2,
    chat_pb2,
    decode_pb2,
    generation_pb2,
    models_pb2,
    pages_pb2,
    prefill_pb2,
    vision_pb2,
    worker_pb2,
)
from services.common.rpc.callers import CALLERS
from services.gateway.access.rules import ROUTES
from tests.gateway import canary
from tests.gateway.canary import CANARY
from tests.gateway.pictures import picture
from tests.support.stack import ROLES, Stack

MODULES = (
    admin_pb2, chat_pb2, decode_pb2, generation_pb2, models_pb2, pages_pb2, prefill_pb2, vision_pb2,
    worker_pb2, health_pb2, reflection_pb2,
)  # fmt: skip
INPUTS = {
    f"/{service.full_name}/{method.name}": method.input_type
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
SAMPLING = {"max_tokens": 2}
TEXT = chat_pb2.ContentPart(text="Hi")
# Requests that are right but for what is put into them; empty ones of all other methods.
GOOD: dict[str, list[Message]] = {
    "ChatRequest": [
        chat_pb2.ChatRequest(messages=[chat_pb2.Message(role="user", content=[TEXT])], sampling=SAMPLING)
    ],
    "GenerateRequest": [generation_pb2.GenerateRequest(text="Hi", sampling=SAMPLING)],
    "SessionRequest": [
        decode_pb2.SessionRequest(
            submits=[decode_pb2.Submit(handle=1, prompt_token_ids=[1, 2, 3], sampling=SAMPLING)]
        )
    ],
    "EncodeRequest": [vision_pb2.EncodeRequest(image=picture())],
    "PrefillRequest": [prefill_pb2.PrefillRequest(start=prefill_pb2.PrefillStart(token_ids=[1, 2, 3]))],
}
# By these, services know each other; clients set none of them.
NAMES = frozenset({"request_id", "incarnation", "address", "reader", "owner", "prefill_addresses"})
# They would end or empty the suite that serves the other calls.
OPERATING = {
    f"/perigee.v1.{name}"
    for name in (
        "WorkerService/Drain",
        "WorkerService/Undrain",
        "AdminService/DrainWorker",
        "AdminService/UndrainWorker",
    )
}
PORTS = {
    "gateway": ("perigee.v1.ChatService", "perigee.v1.GenerationService", "perigee.v1.ModelService"),
    "operator": ("perigee.v1.AdminService",),
    "vision": ("perigee.v1.WorkerService", "perigee.v1.VisionService"),
    "prefill": ("perigee.v1.WorkerService", "perigee.v1.PrefillService"),
    "decode": ("perigee.v1.WorkerService", "perigee.v1.DecodeService", "perigee.v1.PageService"),
}
EVERYWHERE = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Gets all spans."""
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def talkative(
    nano_dir: Path, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Stack]:
    """All four processes, logging and tracing all that they can, and fetching media by URL."""
    flags: dict[str, dict[str, object]] = {role: {"log_level": "DEBUG"} for role in ROLES}
    flags["gateway"]["allowed_media_hosts"] = "*"
    logs = tmp_path_factory.mktemp("talkative")
    with Stack(nano_dir, logs, flags, collector.environment) as stack:
        stack.start()
        yield stack


def _answer(stack: Stack) -> str:
    body = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 12, "temperature": 0}
    request = urllib.request.Request(f"{stack.base_url}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as page:
        return str(json.load(page)["choices"])


@pytest.fixture
def silent(talkative: Stack, collector: Collector) -> Iterator[None]:
    """Fails if the canary stands in a log, in a metric, in a span, or on a page that the gateway shows
    everybody, or if another's answer is not what it was before.
    """
    answer, processes = _answer(talkative), dict(talkative.processes)
    yield
    assert _answer(talkative) == answer
    assert [role for role, process in processes.items() if process.poll() is not None] == []
    found = [
        line for role in ROLES for line in talkative.log(role).splitlines() if CANARY.lower() in line.lower()
    ]
    for role in ROLES:
        found += [
            line
            for line in _page(talkative.metrics_ports[role], "/metrics")
            if CANARY.lower() in line.lower()
        ]
    for path in ("/server_info", "/health", "/v1/models"):
        found += [line for line in _page(talkative.http_port, path) if CANARY.lower() in line.lower()]
    found += [text for text in map(str, collector.spans()) if CANARY.lower() in text.lower()]
    assert not found, "\n".join(line[:1000] for line in found[:20])
    assert all(talkative.log(role) for role in ROLES)
    assert {span.service for span in collector.spans()} >= {"gateway", "decode"}


def _page(port: int, path: str) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as page:
        return page.read().decode().splitlines()


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=any(name == "Host" for name, _ in headers))
        for name, value in (("Content-Length", str(len(body))), *headers):
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def test_every_body_of_every_route(talkative, silent):
    given = list(canary.bodies())
    given += [(f"/v1{route}", body) for route, body in given if "tokenize" in route]
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda case: ask(talkative.http_port, "POST", *case), given))
    counts = Counter(zip((route for route, _ in given), statuses, strict=True))
    described = json.loads("".join(_page(talkative.http_port, "/openapi.json")))["paths"]
    for route in (route for route, methods in described.items() if "post" in methods):
        assert counts[route, 200], f"no body of {route} was right"
        assert counts[route, 400] > 4
    assert max(statuses) < 500, counts


def test_every_path_and_header(talkative, silent):
    paths = (*canary.PATHS, *(path.replace("{name}", CANARY) for path in ROUTES))
    ports = [talkative.http_port, *talkative.metrics_ports.values()]
    for port in ports:
        for path in paths:
            for method in ("GET", "POST", CANARY.upper()):
                ask(port, method, path)
        for header in canary.HEADERS:
            ask(port, "GET", f"/metrics?{CANARY}", headers=(header,))
    body = b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}'
    for header in canary.HEADERS:
        ask(talkative.http_port, "POST", "/v1/chat/completions", body, (header,))


def test_every_method_of_every_grpc_port(talkative, silent):
    served = {service for services in PORTS.values() for service in (*services, *EVERYWHERE)}
    methods = [name for name in CALLERS if name.split("/")[1] in served and name not in OPERATING]
    assert {*methods, *OPERATING} == set(CALLERS)
    for port in PORTS:
        codes = _calls(talkative, port, methods)
        assert codes[grpc.StatusCode.OK] > 3, (port, codes)
        assert codes[grpc.StatusCode.INVALID_ARGUMENT] > 3, (port, codes)
        assert not codes[grpc.StatusCode.INTERNAL], (port, codes)


def _calls(stack: Stack, port: str, methods: list[str]) -> Counter[grpc.StatusCode]:
    """Calls those methods that the port has, with all messages; returns how they ended."""
    channel = grpc.insecure_channel(stack.operator_address) if port == "operator" else stack.channel(port)
    own = [name for name in methods if name.split("/")[1] in (*PORTS[port], *EVERYWHERE)]
    with channel, ThreadPoolExecutor(4) as pool:
        cases = [(name, message) for name in own for message in _messages(name)]
        return Counter(pool.map(lambda case: call(channel, *case), cases))


def _messages(name: str) -> list[bytes]:
    """What is sent to a method, beside bytes that are no message."""
    described = INPUTS[name.replace(".v1.ServerReflection", ".v1alpha.ServerReflection")]
    empty = GOOD.get(described.name, [GetMessageClass(described)()])
    texts = [message.SerializeToString() for each in empty for message in canary.messages(each, NAMES)]
    return [*texts, b"\xff" + CANARY.encode()]


def call(channel: grpc.Channel, method: str, message: bytes) -> grpc.StatusCode:
    """Makes a call and returns how it ended; a stream of answers is left after two seconds."""
    metadata = (("x-request-id", f"{CANARY} {CANARY}"), ("x-other", CANARY))
    answers = channel.stream_stream(method)(iter([message]), timeout=2, metadata=metadata)
    with contextlib.suppress(grpc.RpcError):
        for _ in answers:
            pass
    return answers.code()
