"""However requests end, and however many at once, every page is free soon after."""

from __future__ import annotations

import time

import pytest

from perigee.v1 import sampling_pb2
from tests.support.decode_client import DecodeClient, Outcome
from tests.support.prompts import random_prompt
from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import Stack
from tests.support.waiting import wait_until

# Decode can hold two long prompts at a time, and prefill one.
FLAGS = {
    "prefill": {"kv_pages": 60, "chunk_tokens": 256, "layers_per_group": 1},
    "decode": {"kv_pages": 120},
}
ATTEMPTS = 5
LONG = 3000
SHORT = 300


def gauge(stack: Stack, role: str, name: str) -> float:
    return stack.metrics(role)[name, ()]


def queued_on_decode(stack: Stack) -> bool:
    return gauge(stack, "decode", "perigee_requests_waiting") > 0


def queued_on_prefill(stack: Stack) -> bool:
    return gauge(stack, "prefill", "perigee_requests_waiting") > 0


def prefilling(stack: Stack) -> bool:
    return stack.pages("prefill")["leased"] > 0


PHASES = {
    "queued on decode": (4, LONG, queued_on_decode),
    "queued on prefill": (2, LONG, queued_on_prefill),
    "prefilling and transferring": (1, LONG, prefilling),
    "decoding": (1, SHORT, None),
}


@pytest.mark.parametrize("ending", ["cancelled", "broken"])
@pytest.mark.parametrize("phase", PHASES)
def test_an_ended_request_frees_everything_within_a_second(workers, decode_client, phase, ending):
    submitted = submit_until_in(phase, ending, workers, decode_client)
    if ending == "cancelled":
        for handle, _ in submitted:
            decode_client.cancel(handle)
    else:
        decode_client.break_off()
    freed = workers.wait_until_free(1.0, ("prefill", "decode"))
    print(f"{phase}, {ending}: all pages free {freed:.3f} s later")
    if ending == "cancelled":
        for _, outcome in submitted:
            assert outcome.done.wait(30)
            assert outcome.finish[0] == sampling_pb2.FINISH_REASON_CANCELLED
    for role in ("prefill", "decode"):
        assert gauge(workers, role, "perigee_requests_running") == 0
        assert gauge(workers, role, "perigee_requests_waiting") == 0


def submit_until_in(
    phase: str, ending: str, workers: Stack, client: DecodeClient
) -> list[tuple[int, Outcome]]:
    """Submits requests and returns when they are in the phase.

    On a busy machine a phase may pass unseen: then they are cancelled and others are submitted.
    """
    count, length, reached = PHASES[phase]
    prompt = random_prompt(length, "ending")
    for attempt in range(ATTEMPTS):
        salts = [f"{phase} {ending} {attempt} {index}" for index in range(count)]
        submitted = [client.submit(prompt, 2000, [workers.address("prefill")], salt=salt) for salt in salts]
        first = submitted[0][1].first_token
        if reached is None:
            assert first.wait(60)
            return submitted
        wait_until(lambda first=first: reached(workers) or first.is_set(), 60)
        if not any(outcome.tokens for _, outcome in submitted):
            return submitted
        for handle, _ in submitted:
            client.cancel(handle)
        workers.wait_until_free(60.0, ("prefill", "decode"))
    raise AssertionError(f"{phase} passed unseen {ATTEMPTS} times")


def test_two_hundred_streams_at_once_finish_and_leave_nothing_behind(
    workers, decode_client, reference: ReferenceLoop
):
    prompts = [random_prompt(17 + index % 100, index) for index in range(200)]
    started = time.monotonic()
    outcomes = [decode_client.submit(prompt, 12, [workers.address("prefill")])[1] for prompt in prompts]
    for outcome in outcomes:
        assert outcome.done.wait(120)
        assert outcome.error is None, outcome.error
        assert len(outcome.tokens[0]) == 12
    print(f"200 streams in {time.monotonic() - started:.1f} s")
    print(f"all pages free {workers.wait_until_free(1.0, ('prefill', 'decode')):.3f} s later")
    for index in range(0, 200, 20):
        assert outcomes[index].tokens[0] == reference.greedy(prompts[index], 12)
    for role in ("prefill", "decode"):
        assert workers.counter(role, "perigee_integrity_failures_total") == 0
