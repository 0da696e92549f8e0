"""A worker that stops for a while under a stream: every client gets the whole text (`--stall SECONDS`)."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack

import pytest

from tests.clients.client import CLIENTS
from tests.clients.script import Stream
from tests.support.stack import Stack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)


def texts_of(streams: dict) -> dict:
    """What each client has read; an AssertionError in place of the text of one that failed."""
    texts = {}
    for client, stream in streams.items():
        try:
            texts[client] = stream.said("text")
        except AssertionError as error:
            texts[client] = error
    return texts


def waiting(stack: Stack) -> int:
    """The gateway's requests without a first token."""
    return int(stack.metrics("gateway")["perigee_requests_waiting", ()])


@pytest.fixture(scope="module")
def undisturbed(suite, environment_of):
    """The text that each client reads when nothing stops."""
    with ExitStack() as stack:
        streams = {client: Stream(environment_of(client), suite.base_url) for client in CLIENTS}
        for stream in streams.values():
            stack.callback(stream.close)
        for stream in streams.values():
            stream.said("ready")
            stream.begin()
        return texts_of(streams)


@pytest.fixture(
    scope="module",
    params=[
        ("decode", "before the first token"),
        ("decode", "between tokens"),
        ("prefill", "before the first token"),
    ],
    ids=lambda case: "-".join(case).replace(" ", "-"),
)
def stalled(request, nano, tmp_path_factory, environment_of):
    """What each client reads, all at once, when a worker stops; a second decode worker starts."""
    role, moment = request.param
    seconds = request.config.getoption("--stall")
    with (
        Stack(nano, tmp_path_factory.mktemp("stalled"), replicas={"decode": 2}) as suite,
        ExitStack() as stack,
    ):
        suite.start("vision", "prefill", "decode", "gateway")
        streams = {client: Stream(environment_of(client), suite.base_url) for client in CLIENTS}
        for stream in streams.values():
            stack.callback(stream.close)
        for stream in streams.values():
            stream.said("ready")
        if moment == "before the first token":
            suite.signal(role, signal.SIGSTOP)
            stopped = time.monotonic()
        for stream in streams.values():
            stream.begin()
        if moment == "before the first token":
            wait_until(lambda: waiting(suite) == len(CLIENTS), 20, every_s=0.05)
        else:
            for stream in streams.values():
                stream.said("first")
            suite.signal(role, signal.SIGSTOP)
            stopped = time.monotonic()
        suite.start("decode-1")
        time.sleep(max(0.0, stopped + seconds - time.monotonic()))  # the stop's length is what is tried
        suite.signal(role, signal.SIGCONT)
        texts = texts_of(streams)
        if role == "decode":
            assert suite.counter("gateway", "perigee_failovers_total") >= len(CLIENTS)
        return texts


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_a_client_reads_the_whole_text_though_a_worker_stops(client, stalled, undisturbed):
    assert stalled[client] == undisturbed[client]
    assert len(undisturbed[client]) > 1000
