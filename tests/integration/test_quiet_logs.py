"""Neither client errors nor clients that disconnect cause errors or tracebacks in the logs."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from perigee.v1 import chat_pb2, decode_pb2, generation_pb2, vision_pb2, worker_pb2
from tests.support.stack import Stack

# Raw bytes for a connection: send them, then wait for an answer, hang up, or reset.
CHAT = json.dumps(
    {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 200, "stream": True}
).encode()
JSON = b"Content-Type: application/json\r\n"


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % path
        + JSON
        + (b"".join(headers) or length)
        + b"\r\n"
        + body
    )


CHATS = b"/v1/chat/completions"
HTTP = {
    "no HTTP": b"\x00\x01\x02 garbage\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(200),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bad method": b"BREW /coffee HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bad header": b"GET / HTTP/1.1\r\nHost: localhost\r\nbroken header line\r\n\r\n",
    "bad version": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "bad target": b"GET /%ff%00/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bad escape": b"GET /v1/models/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bad query": b"GET /metrics?%ff=\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "absolute target": b"GET http://elsewhere/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT": b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
    "bad length": post(CHATS, CHAT, b"Content-Length: minus one\r\n"),
    "negative length": post(CHATS, CHAT, b"Content-Length: -1\r\n"),
    "huge length": post(CHATS, CHAT, b"Content-Length: 99999999999999\r\n"),
    "two lengths": post(CHATS, CHAT, b"Content-Length: 5\r\nContent-Length: 6\r\n"),
    "length and chunks": post(CHATS, CHAT, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    "bad chunks": post(CHATS, b"zz\r\nhello\r\n", b"Transfer-Encoding: chunked\r\n"),
    "unknown encoding": post(CHATS, CHAT, b"Transfer-Encoding: gzip\r\n"),
    "short body": post(CHATS, CHAT, b"Content-Length: 5000\r\n"),
    "half a chunk": post(CHATS, b"50\r\nhello", b"Transfer-Encoding: chunked\r\n"),
    "upgrade": b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "expect": post(CHATS, CHAT, b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(CHAT)),
    "no JSON": post(CHATS, b"{"),
    "no text": post(CHATS, b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}'),
    "lone surrogate": post(CHATS, b'{"messages": [{"role": "user", "content": "\\ud800"}]}'),
    "deep": post(CHATS, b"[" * 100_000),
    "deep schema": post(CHATS, b'{"messages":[],"response_format":' + b'{"a":' * 3000 + b"1" + b"}" * 3001),
    "a list": post(CHATS, b"[]"),
    "NaN": post(CHATS, b'{"messages": [], "temperature": NaN}'),
    "huge number": post(CHATS, b'{"messages": [], "max_tokens": 1e999}'),
    "wrong types": post(CHATS, b'{"messages": {"role": 1}, "n": "many"}'),
    "unknown role": post(CHATS, b'{"messages": [{"role": "king", "content": "x"}]}'),
    "bad image": post(
        CHATS,
        b'{"messages": [{"role": "user", "content": [{"type": "image_url",'
        b' "image_url": {"url": "data:image/png;base64,AAAA"}}]}]}',
    ),
    "bad tokens": post(b"/detokenize", b'{"tokens": [-1, 99999999999999999999]}'),
    "bad prompt": post(b"/v1/completions", b'{"prompt": [[1], "x"]}'),
    "bad ids": post(b"/generate", b'{"input_ids": [4294967295]}'),
    "a stream": post(CHATS, CHAT),
    "long header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    "pipelined": post(CHATS, b"{") + post(CHATS, CHAT) + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def throw(port: int, data: bytes, *, reset: bool) -> None:
    """Sends the bytes, reads what arrives within half a second, and closes; or resets the
    connection at once.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as peer:
        try:
            peer.sendall(data)
            if reset:
                time.sleep(0.05)  # so that the reset usually arrives while the request is being answered
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                while peer.recv(65536):
                    pass
        except OSError:
            pass


def call(channel: grpc.Channel, kind: str, method: str, messages: Callable[[], Iterator[bytes]]) -> None:
    """Makes a call with these bytes as messages, and ignores how it ends."""
    try:
        if kind == "unary":
            channel.unary_unary(method)(next(messages(), b""), timeout=5)
        elif kind == "stream":
            for _ in channel.stream_stream(method)(messages(), timeout=1):
                pass
        elif kind == "half-closed":
            channel.stream_unary(method)(iter(()), timeout=1)
        else:
            answers = channel.stream_stream(method)(messages(), timeout=2)
            next(answers, None)
            answers.cancel()
    except grpc.RpcError:
        pass


P = "/perigee.v1."
GARBAGE = b"\xff\xff\xff\xff"
CHAT_REQUEST = chat_pb2.ChatRequest(
    messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hello")])]
).SerializeToString()
SUBMIT = decode_pb2.SessionRequest(
    submits=[decode_pb2.Submit(handle=1, prompt_token_ids=[1, 2, 3])]
).SerializeToString()
HELLO = worker_pb2.HandshakeRequest(hello=worker_pb2.ReaderHello(incarnation="x")).SerializeToString()
METHODS = {
    "gateway": ["ChatService/Complete", "ChatService/Stream", "GenerationService/Generate",
                "GenerationService/StreamGenerate", "GenerationService/Tokenize", "ModelService/GetModel",
                "NoService/None"],
    "decode": ["DecodeService/Session", "PageService/Lease"],
    "prefill": ["PrefillService/Prefill"],
    "vision": ["VisionService/Lease", "VisionService/Encode", "VisionService/EncodeVideo"],
}  # fmt: skip
WORKER = ["GetInfo", "WatchLoad", "Handshake", "Flush", "CheckTransfer", "Undrain"]
MESSAGES = {
    "garbage": [GARBAGE],
    "empty": [b""],
    "chat": [CHAT_REQUEST],
    "submit": [SUBMIT, GARBAGE],
    "submit twice": [SUBMIT, SUBMIT],
    "hello": [HELLO, GARBAGE],
    "encode": [vision_pb2.EncodeRequest(image=b"no image").SerializeToString()],
    "address": [
        worker_pb2.CheckTransferRequest(
            address="no address", role=worker_pb2.WORKER_ROLE_DECODE
        ).SerializeToString()
    ],
    "ids": [
        generation_pb2.GenerateRequest(token_ids=generation_pb2.TokenIds(ids=[2**32 - 1])).SerializeToString()
    ],
}


def defects(text: str) -> list[str]:
    """Lines that are not JSON, or that report an error or an exception."""
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            found.append(line)
            continue
        if entry.get("level") in ("error", "critical") or "exception" in entry or "Traceback" in line:
            found.append(f"{entry.get('event')} {entry.get('method')} {str(entry.get('exception'))[-600:]}")
    return found


@pytest.fixture
def quiet(suite: Stack) -> Iterator[None]:
    """Fails if a service logs a defect during the test."""
    roles = ("vision", "prefill", "decode", "gateway")
    before = {role: len(suite.log(role)) for role in roles}
    yield
    time.sleep(1.0)  # the error of a task that nobody awaits is logged when the task is collected
    found = {role: defects(suite.log(role)[before[role] :]) for role in roles}
    assert not any(found.values()), "\n".join(
        f"{role}: {line[:3000]}" for role in roles for line in found[role]
    )


@pytest.mark.parametrize("reset", [False, True], ids=["read", "reset"])
def test_bytes_at_the_http_ports(suite, quiet, reset):
    with ThreadPoolExecutor(8) as pool:
        for data in HTTP.values():
            pool.submit(throw, suite.http_port, data, reset=reset)
        for role in ("vision", "prefill", "decode"):
            for name in (
                "no HTTP",
                "TLS",
                "bad header",
                "bad version",
                "long header",
                "bad query",
                "upgrade",
            ):
                pool.submit(throw, suite.metrics_ports[role], HTTP[name], reset=reset)
            pool.submit(throw, suite.metrics_ports[role], b"GET /metrics HTTP/1.1\r\n\r\n", reset=reset)


def test_bytes_at_the_grpc_ports(suite, quiet):
    ports = [suite.operator_port, *suite.ports.values()]
    with ThreadPoolExecutor(8) as pool:
        for port in ports:
            for reset in (False, True):
                for data in (b"garbage\r\n\r\n", HTTP["TLS"], HTTP["HTTP/2 preface"], HTTP["a stream"]):
                    pool.submit(throw, port, data, reset=reset)


@pytest.mark.parametrize("kind", ["unary", "stream", "half-closed", "cancelled"])
@pytest.mark.parametrize("role", list(METHODS))
def test_messages_at_the_grpc_ports(suite, quiet, role, kind):
    own = METHODS[role] + ([] if role == "gateway" else [f"WorkerService/{name}" for name in WORKER])
    with suite.channel(role) as channel, ThreadPoolExecutor(8) as pool:
        for method in own:
            for messages in MESSAGES.values():
                pool.submit(call, channel, kind, P + method, lambda messages=messages: iter(messages))


def test_clients_that_leave_in_the_middle_of_an_answer(suite, quiet):
    with suite.channel() as channel:
        for kind, method in (("unary", "ChatService/Complete"), ("cancelled", "ChatService/Stream")):
            call(channel, kind, P + method, lambda: iter([CHAT_REQUEST]))
    threads = [
        threading.Thread(target=throw, args=(suite.http_port, HTTP["a stream"]), kwargs={"reset": True})
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    suite.wait_until_free(10.0)
