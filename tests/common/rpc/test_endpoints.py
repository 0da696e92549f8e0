"""Endpoints is the only place in services/ that opens channels and binds servers."""

from __future__ import annotations

import ast
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.common.errors import ConfigError
from tests.support.endpoints import ENDPOINTS, bind, build_server, open_sync_channel

SERVICES = Path(__file__).resolve().parents[3] / "services"
ALLOWED = SERVICES / "common" / "rpc" / "endpoints.py"

OPENERS = {
    "insecure_channel", "secure_channel", "add_insecure_port", "add_secure_port", "bind", "create_server",
    "start_server", "start_unix_server", "create_unix_server", "create_datagram_endpoint",
    "start_http_server", "start_wsgi_server", "make_server",
}  # fmt: skip
SERVERS = {
    "HTTPServer", "ThreadingHTTPServer", "TCPServer", "ThreadingTCPServer", "UDPServer", "UnixStreamServer",
    "WSGIServer", "Listener",
}  # fmt: skip
MODULE_OPENERS = {"grpc.server", "grpc.aio.server", "aio.server", "uvicorn.run"}
ADDRESSES = {"host", "port", "uds", "fd"}


def opened_in(source: str) -> list[tuple[int, str]]:
    """Line and name of everything that opens a channel or binds a server: called, passed on or imported."""
    return sorted(_found(ast.parse(source)))


def _found(tree: ast.Module) -> Iterator[tuple[int, str]]:
    others = {id(node.func) for node in ast.walk(tree) if _binds_no_address(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if (node.attr in OPENERS or name in MODULE_OPENERS) and id(node) not in others:
                yield node.lineno, name
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.rpartition(".")[2] in SERVERS or _binds_by_address(name, node):
                yield node.lineno, name
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from ((node.lineno, name) for name in names if _is_opener(name))
        elif isinstance(node, ast.ClassDef) and _binds_when_made(node):
            yield node.lineno, node.name


def _binds_no_address(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether it calls a `bind` without an argument: a logger's or a device's, for a socket wants one."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "bind"
        and not (node.args or node.keywords)
    )


def _is_opener(name: str) -> bool:
    return name in MODULE_OPENERS or name.rpartition(".")[2] in OPENERS


def _binds_by_address(name: str, call: ast.Call) -> bool:
    """Whether it is a configuration of uvicorn with an address, which uvicorn binds itself."""
    return name.endswith("uvicorn.Config") and not ADDRESSES.isdisjoint(key.arg for key in call.keywords)


def _binds_when_made(node: ast.ClassDef) -> bool:
    """Whether it is one of the standard library's servers and does not tell its base to leave that alone."""
    bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    return bool(bases & SERVERS) and "bind_and_activate=False" not in ast.unparse(node)


def test_nothing_else_in_services_opens_a_channel_or_binds_a_server():
    found = {
        f"{path.relative_to(SERVICES.parent)}:{line} {name}"
        for path in SERVICES.rglob("*.py")
        if path != ALLOWED
        for line, name in opened_in(path.read_text())
    }
    assert not found
    assert opened_in(ALLOWED.read_text())  # the search finds what it looks for


@pytest.mark.parametrize(
    "source",
    [
        "import grpc\ngrpc.aio.insecure_channel('a:1')",
        "from grpc.aio import secure_channel",
        "import grpc\ngrpc.aio.server()",
        "server.add_secure_port('a:1', credentials)",
        "import uvicorn\nuvicorn.run(app)",
        "socket.socket().bind(('', 1))",
        "asyncio.start_server(answer, '', 1)",
        "class Page(HTTPServer):\n    pass",
        "HTTPServer(('', 1), Page)",
        "partial(grpc.aio.insecure_channel, options=[])",
        "from asyncio import start_server as listen",
        "uvicorn.Server(uvicorn.Config(app, host='0.0.0.0', port=1))",
    ],
)
def test_each_way_to_open_one_is_found(source):
    assert opened_in(source)


def test_a_logger_is_no_server():
    assert not opened_in("log = structlog.get_logger().bind()")


async def test_a_taken_port_is_named_with_the_flag_that_changes_it():
    first, second = build_server(), build_server()
    port = bind(first, "127.0.0.1", 0)
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: the port is taken; .*--grpc-port"):
        bind(second, "127.0.0.1", port, "--grpc-port")
    await first.stop(None)
    await second.stop(None)


async def test_a_port_another_program_holds_is_taken_too():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        server = build_server()
        with pytest.raises(ConfigError, match="the port is taken"):
            bind(server, "127.0.0.1", holder.getsockname()[1])
        await server.stop(None)


async def test_a_number_that_is_no_port_is_refused():
    server = build_server()
    with pytest.raises(ConfigError, match="70000 is not a port"):
        bind(server, "127.0.0.1", 70000)
    await server.stop(None)


async def test_a_message_over_the_limit_is_refused(serving):
    async with serving(max_message_bytes=1000) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await chat_pb2_grpc.ChatServiceStub(channel).Complete(chat_pb2.ChatRequest(model="x" * 2000))
    assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED)


async def test_no_proxy_stands_between_our_own_processes(serving, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving() as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_nobody_listening_is_unavailable_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open_sync_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_taken_port_of_a_bare_socket_is_named_with_the_flag_that_changes_it():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: the port is taken; .*--http-port"):
            ENDPOINTS.bound_socket("127.0.0.1", port, "--http-port")


def test_two_sockets_of_one_user_share_a_port_only_where_both_say_so():
    first = ENDPOINTS.bound_socket("127.0.0.1", 0, "--http-port", share_port=True)
    port = first.getsockname()[1]
    first.listen()
    second = ENDPOINTS.bound_socket("127.0.0.1", port, "--http-port", share_port=True)
    with first, second, pytest.raises(ConfigError, match="the port is taken"):
        ENDPOINTS.bound_socket("127.0.0.1", port, "--http-port")
