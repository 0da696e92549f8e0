"""The operator's commands against the real suite: real processes, real NIXL."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from perigee.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    sampling_pb2,
    worker_pb2,
    worker_pb2_grpc,
)
from tests.gateway.pictures import picture
from tests.support.endpoints import open_sync_channel
from tests.support.stack import TRANSPORTS, Stack
from tests.support.waiting import scaled


def perigee(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def operate(suite: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """`perigee WORDS` at the suite's gateway."""
    return perigee(*words, "--address", suite.operator_address)


def operator_channel(suite: Stack) -> grpc.Channel:
    return open_sync_channel(suite.operator_address)


def test_the_workers_are_listed_serving_with_their_pages(suite):
    done = operate(suite, "workers")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [row[:3] for row in rows] == [
        [role, suite.address(role), "serving"] for role in ("vision", "prefill", "decode")
    ]
    assert all(row[-1].endswith(f"/{sum(suite.pages(row[0]).values())}") for row in rows)


def test_prefill_and_decode_read_each_other_and_every_round_is_whole(suite):
    done = operate(suite, "transfer-check", suite.address("prefill"), "decode", "--rounds", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("20,971,520 bytes") == done.stdout.count("ok in every round") == 2
    assert done.stdout.count("no: the CPUs move the bytes") == 2


def test_a_check_says_which_incarnation_it_read(suite):
    request = worker_pb2.CheckTransferRequest(
        address=suite.address("decode"), role=worker_pb2.WORKER_ROLE_DECODE, rounds=4
    )
    with suite.channel("prefill") as reader, suite.channel("decode") as owner:
        answer = worker_pb2_grpc.WorkerServiceStub(reader).CheckTransfer(request, timeout=60)
        info = worker_pb2_grpc.WorkerServiceStub(owner).GetInfo(worker_pb2.GetInfoRequest(), timeout=60)
    assert (answer.incarnation, answer.bytes) == (info.incarnation, 4 << 20)
    assert answer.transport.gigabytes_per_second > 0.05


@pytest.mark.parametrize("reader", ["prefill", "decode"])
def test_a_vision_worker_is_only_read(suite, reader):
    done = operate(suite, "transfer-check", "vision", reader, "--rounds", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    (head,) = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert head == f"{reader} {suite.address(reader)} reads from vision {suite.address('vision')}"


def test_a_vision_worker_asked_to_read_refuses_and_says_to_swap_the_two(suite):
    request = admin_pb2.CheckWorkersRequest(reader=suite.address("vision"), owner=suite.address("decode"))
    with operator_channel(suite) as channel, pytest.raises(grpc.RpcError) as caught:
        admin_pb2_grpc.AdminServiceStub(channel).CheckTransfer(request, timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert f"reader {suite.address('vision')}: vision-" in caught.value.details()
    assert "Swap the two" in caught.value.details()


def test_checks_beside_traffic_disturb_nobody(suite):
    stop, checks = threading.Event(), []

    def check():
        while not stop.is_set():
            checks.append(operate(suite, "transfer-check", "prefill", "decode", "--rounds", "400"))

    prompts = [[(7 * index + salt) % 2000 for index in range(500)] for salt in range(6)]
    sampling = sampling_pb2.SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    with suite.channel() as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)

        def tokens(prompt):
            request = generation_pb2.GenerateRequest(
                token_ids=generation_pb2.TokenIds(ids=prompt), sampling=sampling
            )
            return list(stub.Generate(request, timeout=60).choices[0].token_ids)

        checking = threading.Thread(target=check)
        checking.start()
        beside = [tokens(prompt) for prompt in prompts]
        stop.set()
        checking.join()
        flushed = operate(suite, "flush")
        assert (flushed.returncode, flushed.stdout.count("dropped")) == (0, 3), flushed.stderr
        assert [tokens(prompt) for prompt in prompts] == beside
    assert [done.returncode for done in checks] == [0] * len(checks), checks[-1].stdout
    suite.wait_until_free(2.0)


@pytest.mark.parametrize("role", ["gateway", "vision", "prefill", "decode"])
def test_the_health_command_asks_any_of_the_servers(suite, role):
    assert perigee("health", suite.address(role)).returncode == 0


def test_the_clients_port_takes_no_operators_commands(suite):
    done = perigee("workers", "--address", suite.address("gateway"))
    assert done.returncode == 1
    assert "operator port" in done.stderr


def states(suite: Stack) -> dict[str, str]:
    """The state of each role's worker."""
    return {row.split()[0]: row.split()[2] for row in operate(suite, "workers").stdout.splitlines()[1:]}


@pytest.mark.parametrize(
    ("role", "counter"),
    [
        ("vision", "perigee_vision_cache_misses_total"),
        ("prefill", "perigee_prefill_computed_tokens_total"),
        ("decode", None),
    ],
)
def test_a_drained_worker_that_is_undrained_computes_again(suite, role, counter):
    assert operate(suite, "drain", role, "--force", "--wait-seconds", "20").returncode == 0
    assert states(suite)[role] == "draining"
    assert operate(suite, "undrain", role).returncode == 0
    assert states(suite)[role] == "serving"
    assert perigee("health", suite.address("gateway")).returncode == 0
    before = suite.counter(role, counter) if counter else 0
    parts = [
        chat_pb2.ContentPart(image=chat_pb2.Image(data=picture(width=60 + len(role)))),
        chat_pb2.ContentPart(text=f"{role} undrained " * 100),
    ]
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=parts)],
        sampling=sampling_pb2.SamplingParams(max_tokens=4, temperature=0, ignore_eos=True),
    )
    with suite.channel() as channel:
        answer = chat_pb2_grpc.ChatServiceStub(channel).Complete(request, timeout=60)
    assert answer.usage.completion_tokens == 4
    assert counter is None or suite.counter(role, counter) > before


def test_a_worker_is_drained_checked_and_seen_to_be_gone(nano_dir: Path, tmp_path: Path):
    with Stack(nano_dir, tmp_path, environment=TRANSPORTS["tcp"]) as stack:
        stack.start()
        last = operate(stack, "drain", "decode")
        assert (last.returncode, "is the last decode worker" in last.stderr) == (1, True)
        drained = operate(stack, "drain", "decode", "--force", "--wait-seconds", "20")
        assert drained.returncode == 0, drained.stderr
        assert "admits no new requests; 0 requests outstanding\n" in drained.stdout
        assert "\nall requests finished" in drained.stdout
        assert "draining" in operate(stack, "workers").stdout
        unhealthy = perigee("health", stack.address("gateway"))
        assert (unhealthy.returncode, "NOT_SERVING" in unhealthy.stderr) == (1, True)
        check = operate(stack, "transfer-check", "prefill", "decode", "--rounds", "8")
        assert check.returncode == 0, check.stdout
        assert check.stdout.count("transport  tcp") == 2
        stack.signal("decode", signal.SIGSTOP)
        began = time.monotonic()
        hung = operate(stack, "transfer-check", "prefill", stack.address("decode"), "--rounds", "8")
        assert hung.returncode == 1
        assert hung.stdout.count("FAILED") == 2
        assert hung.stdout.count(f"worker {stack.address('decode')}: ") >= 1
        assert time.monotonic() - began < 60
        stack.signal("decode", signal.SIGKILL)
        deadline = time.monotonic() + scaled(15)
        while (listed := operate(stack, "workers")).returncode == 0:
            assert time.monotonic() < deadline
        last = listed.stdout.splitlines()[-1].split()
        assert last[:3] == ["decode", stack.address("decode"), "unreachable"]
