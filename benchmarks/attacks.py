"""Inputs with which one caller can hurt others at a gateway; benchmarks.hostile_inputs measures whether they
do.

An attack is a function of a Target that sends its input and returns the answers: a status, and how often. To
add one, write its function and list it in ATTACKS.
"""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType

import grpc

from benchmarks.grammar_attacks import GRAMMAR_ATTACKS
from benchmarks.target import PATIENCE_S, Target, chat, post

_HELD = 520
"""Number of connections: more than the requests that a gateway takes at once by default."""
_HOLD_S = 5.0


Attack = Callable[[Target], Counter[str]]


def _call(target: Target, method: str, message: bytes) -> Counter[str]:
    """Sends one gRPC request of these bytes."""
    with grpc.insecure_channel(f"127.0.0.1:{target.grpc_port}") as channel:
        call = channel.unary_unary(f"/perigee.v1.{method}", None, None)
        try:
            call(message, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return Counter({f"{error.code().name} {error.details()[:100]}": 1})
    return Counter({"OK": 1})


def _hold(target: Target, beginning: bytes) -> Counter[str]:
    """Opens many connections that begin a request and wait; meanwhile a neighbour's request must be
    answered.
    """
    with ExitStack() as stack:
        for _ in range(_HELD):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", target.http_port), 10))
            held.sendall(beginning)
        time.sleep(_HOLD_S)
        return Counter({f"a neighbour's: {status}": count for status, count in chat(target).items()})


def body_behind_an_offer(target: Target) -> Counter[str]:
    """A request that offers an upgrade, whose body is another request."""
    inner = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", target.http_port), 10) as connection:
        connection.sendall(
            b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\n"
            b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
            b"content-length: %d\r\n\r\n" % len(inner)
        )
        time.sleep(0.5)
        connection.sendall(inner)
        connection.settimeout(2)
        received = b""
        try:
            while piece := connection.recv(1 << 16):
                received += piece
        except TimeoutError:
            pass
    return Counter(part[:3].decode() for part in received.split(b"HTTP/1.1 ")[1:])


def one_byte_of_body(target: Target) -> Counter[str]:
    """Connections that send one byte of their body and wait."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n"
    return _hold(target, head + b"{")


def half_a_head(target: Target) -> Counter[str]:
    """Connections that send half a header and wait."""
    return _hold(target, b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-")


def nothing_at_all(target: Target) -> Counter[str]:
    """Connections that send nothing."""
    return _hold(target, b"")


def long_bodies_unfinished(target: Target) -> Counter[str]:
    """Connections that each send 8 MB of a longer body and wait."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000000\r\n\r\n"
    seen: Counter[str] = Counter()
    with ExitStack() as stack:
        for _ in range(200):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", target.http_port), 10))
            try:
                held.settimeout(1)
                held.sendall(head + b" " * 8_000_000)
                seen["8 MB sent"] += 1
            except OSError as error:
                seen[f"sending: {type(error).__name__}"] += 1
        return seen + Counter({f"a neighbour's: {each}": n for each, n in chat(target).items()})


def endless_header(target: Target) -> Counter[str]:
    """A header of 64 MB."""
    with socket.create_connection(("127.0.0.1", target.http_port), 10) as connection:
        try:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nx: ")
            for _ in range(64):
                connection.sendall(b"x" * (1 << 20))
            connection.sendall(b"\r\nhost: localhost\r\n\r\n")
            return Counter({connection.recv(1 << 16)[9:12].decode(): 1})
        except OSError as error:
            return Counter({type(error).__name__: 1})


def messages(target: Target) -> Counter[str]:
    """A chat of a million messages."""
    return chat(target, messages=[{"role": "user", "content": "x"}] * 1_000_000)


def empty_messages(target: Target) -> Counter[str]:
    """A chat of 20 MB of empty objects."""
    return post(target, "/v1/chat/completions", b'{"messages":[' + b"{}," * 6_666_666 + b"{}]}")


def parts(target: Target) -> Counter[str]:
    """One message of a million pieces."""
    content = [{"type": "text", "text": "x"}] * 1_000_000
    return chat(target, messages=[{"role": "user", "content": content}])


def biases(target: Target) -> Counter[str]:
    """Three million keys in logit_bias."""
    return chat(target, logit_bias={str(number): 0 for number in range(3_000_000)})


def stop_strings(target: Target) -> Counter[str]:
    """Five million stop strings."""
    return chat(target, stop=["ab"] * 5_000_000)


def unknown_field(target: Target) -> Counter[str]:
    """An unknown field with 60 MB of lists."""
    filler = b"[]," * 20_000_000
    return post(target, "/v1/chat/completions", b'{"messages":[],"x":[' + filler + b"[]]}")


def escaped_quotes(target: Target) -> Counter[str]:
    """A string without an end, of 60 MB of escaped quotes, after braces."""
    text = b"{" * 100_000 + b'\\"' * 30_000_000
    return post(target, "/v1/chat/completions", b'{"messages":"' + text)


def deep_lists(target: Target) -> Counter[str]:
    """Lists nested 200,000 deep, in a field that may hold anything."""
    return post(target, "/v1/chat/completions", b'{"messages":[],"audio":' + b"[" * 200_000)


def prompts(target: Target) -> Counter[str]:
    """Ten million prompts in one call."""
    return post(target, "/v1/completions", b'{"prompt":[' + b'"a",' * 10_000_000 + b'"a"]}')


def token_ids(target: Target) -> Counter[str]:
    """Thirty million token ids in one call."""
    return post(target, "/generate", b'{"input_ids":[' + b"7," * 30_000_000 + b"7]}")


def tools_as_text(target: Target) -> Counter[str]:
    """A schema given as JSON text in JSON, of five million lists."""
    schema = '{"enum":[' + "[]," * 5_000_000 + "[]]}"
    body = {"text": "x", "sampling_params": {"json_schema": schema}}
    return post(target, "/generate", json.dumps(body).encode())


def grpc_empty_messages(target: Target) -> Counter[str]:
    """20 MB of empty chat messages, two bytes each."""
    return _call(target, "ChatService/Complete", b"\x12\x00" * 10_000_000)


def grpc_unknown_fields(target: Target) -> Counter[str]:
    """20 MB of unknown fields."""
    return _call(target, "ChatService/Complete", b"\x98\x06\x00" * 6_666_666)


def grpc_biases(target: Target) -> Counter[str]:
    """20 MB of empty entries of logit_bias."""
    inner = b"\x42\x00" * 10_000_000
    length = len(inner)
    sizes = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21])
    return _call(target, "GenerationService/Generate", b"\x12\x01x\x22" + sizes + inner)


def grpc_token_ids(target: Target) -> Counter[str]:
    """60 MB of packed token ids."""
    length = 60_000_000
    sizes = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21])
    return _call(target, "GenerationService/Detokenize", b"\x12" + sizes + b"\x07" * length)


def grpc_tools(target: Target) -> Counter[str]:
    """20 MB of empty tools as JSON text."""
    text = b"[" + b"{}," * 6_666_666 + b"{}]"
    length = len(text)
    sizes = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21])
    message = b"\x12\x0c\x0a\x04user\x12\x04\x0a\x02Hi"
    return _call(target, "ChatService/Complete", message + b"\x2a" + sizes + text)


ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {
        attack.__name__: attack
        for attack in (
            body_behind_an_offer,
            one_byte_of_body,
            half_a_head,
            nothing_at_all,
            long_bodies_unfinished,
            endless_header,
            messages,
            empty_messages,
            parts,
            biases,
            stop_strings,
            unknown_field,
            escaped_quotes,
            deep_lists,
            prompts,
            token_ids,
            tools_as_text,
            grpc_empty_messages,
            grpc_unknown_fields,
            grpc_biases,
            grpc_token_ids,
            grpc_tools,
        )
    }
    | GRAMMAR_ATTACKS
)
