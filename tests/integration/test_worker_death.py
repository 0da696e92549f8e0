"""Workers that are killed, stopped and continued under load give no wrong token and lose no page."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.common.rpc.keepalive import Keepalive
from tests.support.decode_client import DecodeClient, Outcome
from tests.support.endpoints import open_sync_channel
from tests.support.prompts import random_prompt
from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import TRANSPORTS, Stack, free_port
from tests.support.waiting import scaled, wait_until

LEASE_S = 3.0
LONG_LEASE_S = 6.0
OTHER_PORT = free_port()
# A stopped peer is noticed within this time, by the pings of the reader's channel.
NOTICED_S = 5.5
NEVER = 10_000
# Pools so small that pages are reused at once; no checksum that could hide a wrong page behind a retry.
PREFILL = {
    "kv_pages": 52,
    "chunk_tokens": 256,
    "layers_per_group": 1,
    "lease_seconds": LEASE_S,
    "checksum_fraction": 0,
    "max_quarantined_pages": NEVER,
}
DECODE = {"kv_pages": 220, "prefill_silence_seconds": 15, "max_quarantined_pages": NEVER}

LONG = random_prompt(1500, "long")
SHORT = [random_prompt(16, index) for index in range(2)]
MIDDLE = [random_prompt(600, index) for index in range(2)]
"""Decode always computes SHORT itself, and MIDDLE if no prefill worker is named."""
STREAMED = 160


@pytest.fixture(scope="module")
def expected(reference: ReferenceLoop) -> dict[tuple[int, ...], list[int]]:
    """The tokens of a plain loop by prompt."""
    lengths = [(LONG, 8), *((prompt, STREAMED) for prompt in (*SHORT, *MIDDLE))]
    return {tuple(prompt): reference.greedy(prompt, length) for prompt, length in lengths}


@pytest.fixture(scope="module")
def workers(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Stack]:
    """A prefill and a decode worker; every test leaves both alive and idle."""
    flags = {"prefill": PREFILL, "decode": DECODE}
    with Stack(nano_dir, tmp_path_factory.mktemp("workers"), flags, TRANSPORTS[transport]) as stack:
        stack.more_prefill.append(f"127.0.0.1:{OTHER_PORT}")
        stack.start("prefill", "decode")
        yield stack


@pytest.fixture(scope="module")
def others(
    workers: Stack, nano_dir: Path, tmp_path_factory: pytest.TempPathFactory, transport: str
) -> Iterator[Stack]:
    """Another pair; its prefill worker leases for longer. Each decode worker reads from both."""
    flags = {"prefill": PREFILL | {"lease_seconds": LONG_LEASE_S}, "decode": DECODE}
    with Stack(nano_dir, tmp_path_factory.mktemp("others"), flags, TRANSPORTS[transport]) as stack:
        stack.ports["prefill"] = OTHER_PORT
        stack.more_prefill.append(workers.address("prefill"))
        stack.start("prefill", "decode")
        yield stack


@pytest.fixture
def client(workers: Stack) -> Iterator[DecodeClient]:
    """A session that does not give up a stopped decode worker."""
    patient = Keepalive(time_ms=60_000, timeout_ms=60_000)
    with open_sync_channel(workers.address("decode"), keepalive=patient) as channel:
        yield DecodeClient(channel)


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> float:
    """Returns the seconds until the condition holds; `timeout_s` applies to an idle machine."""
    started = time.monotonic()
    wait_until(condition, scaled(timeout_s))
    return time.monotonic() - started


def leasing(stack: Stack) -> bool:
    return stack.pages("prefill")["leased"] > 0


def held(stack: Stack) -> int:
    pages = stack.pages("prefill")
    return pages["used"] + pages["leased"] + pages["quarantined"]


def incarnation(stack: Stack, role: str) -> str:
    with stack.channel(role) as channel:
        return worker_pb2_grpc.WorkerServiceStub(channel).GetInfo(worker_pb2.GetInfoRequest()).incarnation


def flush(stack: Stack, role: str) -> None:
    with stack.channel(role) as channel:
        worker_pb2_grpc.WorkerServiceStub(channel).Flush(worker_pb2.FlushRequest())


def finished(outcome: Outcome, timeout_s: float) -> Outcome:
    assert outcome.done.wait(timeout_s), "the request did not end"
    return outcome


def names(outcome: Outcome, address: str) -> bool:
    """Whether the request ended with an error that names the worker."""
    return outcome.error is not None and outcome.error.code != 0 and address in outcome.error.message


def verdict(outcome: Outcome) -> str:
    return outcome.error.message if outcome.error else "right tokens"


def test_prompts_of_a_killed_prefill_worker_are_computed_by_decode_while_their_neighbours_go_on(
    workers, client, expected
):
    address = workers.address("prefill")
    before = incarnation(workers, "prefill")
    neighbours = [client.submit(prompt, STREAMED, [])[1] for prompt in SHORT]
    doomed = [client.submit(LONG, 8, [address], salt=f"killed {index}")[1] for index in range(2)]
    wait_for(lambda: leasing(workers))
    time.sleep(0.1)  # by then READs are under way, which no metrics page shows
    workers.signal("prefill", signal.SIGKILL)
    killed = time.monotonic()
    for outcome in doomed:
        assert finished(outcome, 60).tokens.get(0) == expected[tuple(LONG)], outcome
        assert outcome.stats.prefill_address == ""
    print(f"all answered {time.monotonic() - killed:.2f} s after the kill")
    for prompt, outcome in zip(SHORT, neighbours, strict=True):
        assert finished(outcome, 30).tokens[0] == expected[tuple(prompt)]
    workers.wait_until_free(1.0, ("decode",))
    workers.start("prefill")
    again = client.generate(LONG, 8, [address], salt="again")
    assert again.tokens[0] == expected[tuple(LONG)], again
    assert again.stats.prefill_address == address
    assert incarnation(workers, "prefill") != before


def test_the_next_candidate_takes_over_from_a_killed_prefill_worker(workers, others, client, expected):
    candidates = [workers.address("prefill"), others.address("prefill")]
    _, outcome = client.submit(LONG, 8, candidates, salt="failover")
    wait_for(lambda: leasing(workers))
    workers.signal("prefill", signal.SIGKILL)
    assert finished(outcome, 30).tokens[0] == expected[tuple(LONG)]
    assert outcome.stats.prefill_address == others.address("prefill")
    workers.start("prefill")


def test_a_killed_decode_worker_leaves_nothing_pinned_at_prefill(workers, client, expected):
    address = workers.address("prefill")
    orphans = [client.submit(LONG, 8, [address], salt=f"orphan {index}")[1] for index in range(2)]
    wait_for(lambda: leasing(workers))
    time.sleep(0.1)  # by then READs are under way, which no metrics page shows
    workers.signal("decode", signal.SIGKILL)
    try:
        print(f"prefill's pages free {workers.wait_until_free(1.0, ('prefill',)):.2f} s after the kill")
    except OSError:  # a reader that dies with its READ queued may crash a UCX source
        print(f"UCX ended the prefill worker: {workers.processes['prefill'].wait(5)}")
        workers.start("prefill")
    for outcome in orphans:
        finished(outcome, 5)
    assert client.failure.code() is grpc.StatusCode.UNAVAILABLE
    workers.start("decode")
    with workers.channel("decode") as channel:
        again = DecodeClient(channel).generate(LONG, 8, [address], salt="adopted")
    assert again.tokens[0] == expected[tuple(LONG)], again
    workers.wait_until_free(1.0, ("prefill", "decode"))


def stop_prefill_under_reads(workers: Stack, client: DecodeClient) -> list[Outcome]:
    """Stops prefill while decode reads all pages of several requests from it."""
    address = workers.address("prefill")
    # Prefill has all pages and decode none, so all are announced, and read, at once.
    client.generate(LONG, 1, [address])
    flush(workers, "decode")
    doomed = [client.submit(LONG, 8, [address])[1] for _ in range(8)]
    wait_for(lambda: leasing(workers))
    workers.signal("prefill", signal.SIGSTOP)
    return doomed


def test_bytes_of_a_stopped_prefill_worker_never_land_in_a_page_in_use(workers, client, expected, transport):
    address = workers.address("prefill")
    quarantined = 0
    for _ in range(1 if transport == "default" else 4):  # only reads over TCP need a running source
        doomed = stop_prefill_under_reads(workers, client)
        stopped = time.monotonic()
        for outcome in doomed:
            finished(outcome, 20)
            assert outcome.tokens.get(0) == expected[tuple(LONG)] or names(outcome, address), outcome
        print(f"all ended {time.monotonic() - stopped:.1f} s after the stop:", set(map(verdict, doomed)))
        streams = [client.submit(prompt, STREAMED, [], salt=str(stopped))[1] for prompt in MIDDLE]
        assert all(stream.first_token.wait(20) for stream in streams)
        # gRPC's pings, by which decode notices the stop, run in real time only.
        time.sleep(max(0.0, stopped + NOTICED_S - time.monotonic()))
        quarantined = workers.pages("decode")["quarantined"]
        workers.signal("prefill", signal.SIGCONT)
        settled_s = wait_for(lambda: not workers.pages("decode")["quarantined"], 5)
        print(f"{quarantined} pages in quarantine, none {settled_s:.2f} s after the continue")
        for prompt, stream in zip(MIDDLE, streams, strict=True):
            assert finished(stream, 30).tokens[0] == expected[tuple(prompt)]
            cached = client.generate(prompt, 8, [address], salt=str(stopped))
            assert cached.tokens[0] == expected[tuple(prompt)][:8], cached
        if quarantined:
            break
    assert quarantined or transport == "default"
    again = client.generate(LONG, 8, [address], salt="continued")
    assert again.tokens[0] == expected[tuple(LONG)], again
    workers.wait_until_free(1.0, ("prefill", "decode"))


def flood(stack: Stack, addresses: list[str]) -> None:
    """Rewrites every page of the prefill workers, with requests of another decode worker."""
    with stack.channel("decode") as channel:
        client = DecodeClient(channel)
        # Several prompts, because the time of one grows with the square of its length.
        tokens = (PREFILL["kv_pages"] - 1) // 3 * 64
        outcomes = [
            client.submit(random_prompt(tokens, f"flood {index}"), 1, [address])[1]
            for address in addresses
            for index in range(3)
        ]
        assert all(finished(outcome, 60).error is None for outcome in outcomes)


def test_a_decode_worker_stopped_past_its_lease_never_gives_a_wrong_token(workers, others, client, expected):
    owners = [workers.address("prefill"), others.address("prefill")]
    submitted = time.monotonic()
    sleepers = [(address, client.submit(LONG, 8, [address], salt=f"sleeper {index}")[1])
                for address in owners for index in range(2)]  # fmt: skip
    wait_for(lambda: leasing(workers) and leasing(others))
    workers.signal("decode", signal.SIGSTOP)
    for stack, lease_s in ((workers, LEASE_S), (others, LONG_LEASE_S)):
        wait_for(lambda stack=stack: not held(stack))
        elapsed = time.monotonic() - submitted
        print(f"a lease of {lease_s:g} s: pages free after {elapsed:.1f} s")
        assert elapsed > 0.9 * lease_s, "freed while the reader could still trust its lease"
    flood(others, owners)
    workers.signal("decode", signal.SIGCONT)
    print(f"continued after {time.monotonic() - submitted:.1f} s")
    for address, outcome in sleepers:
        finished(outcome, 20)
        if client.failure is None:  # else decode's keepalive has ended the session, which is an error too
            print(verdict(outcome))
            assert outcome.tokens.get(0) == expected[tuple(LONG)] or names(outcome, address), outcome
    workers.wait_until_free(1.0, ("prefill", "decode"))
    others.wait_until_free(1.0, ("prefill", "decode"))
