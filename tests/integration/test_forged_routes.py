"""A gateway, or who acts as one, cannot make a decode worker connect to an address of its choice."""

from __future__ import annotations

import random
import socket

import grpc
import pytest

from perigee.v1 import decode_pb2

FLAGS = {"prefill": {}, "decode": {}}
NUM_TOKENS = 4
# Routes do not depend on the transport: one is enough.
pytestmark = pytest.mark.parametrize("transport", ["default"], indirect=True)


@pytest.fixture
def listener():
    """A port that counts who connects."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        yield server


def has_no_visitor(listener: socket.socket) -> bool:
    try:
        listener.accept()
    except BlockingIOError:
        return True
    return False


def test_a_prefill_address_outside_the_pool_is_refused_by_name_and_gets_no_connection(
    workers, decode_client, reference, listener
):
    port = listener.getsockname()[1]
    draw = random.Random(1)
    for address in (f"127.0.0.1:{port}", f"localhost:{port}", f"ipv4:127.0.0.1:{port}", f"2130706433:{port}"):
        prompt = [draw.randrange(1280) for _ in range(200)]
        error = decode_client.generate(prompt, NUM_TOKENS, [address]).error
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION.value[0], "INCOMPATIBLE")
        assert address in error.message
        assert f"prefill_pool ({workers.address('prefill')})" in error.message
        # The next candidate serves it all the same.
        outcome = decode_client.generate(prompt, NUM_TOKENS, [address, workers.address("prefill")])
        assert isinstance(outcome.stats, decode_pb2.RequestStats)
        assert outcome.stats.prefill_address == workers.address("prefill")
        assert outcome.tokens[0] == reference.greedy(prompt, NUM_TOKENS)
    assert has_no_visitor(listener)
