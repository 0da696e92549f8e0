"""A worker that fails what it is sent is left in peace, longer each time, and tried by one request."""

from __future__ import annotations

import pytest

from services.gateway.workers.circuit import Circuit
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def circuit(clock):
    return Circuit(clock)


def fail(circuit, times=3):
    for _ in range(times):
        circuit.failed()


def test_three_failures_within_the_window_pause_a_worker_and_two_do_not(circuit, clock):
    fail(circuit, 2)
    assert not circuit.open
    clock.now += 29
    circuit.failed()
    assert circuit.open


def test_failures_far_apart_do_not_pause_a_worker(circuit, clock):
    for _ in range(10):
        circuit.failed()
        clock.now += 16
    assert not circuit.open


def test_after_the_pause_one_request_tries_the_worker_and_its_answer_closes_the_circuit(circuit, clock):
    fail(circuit)
    clock.now += 1.0
    assert not circuit.open
    circuit.chosen()
    assert circuit.open
    circuit.succeeded()
    assert not circuit.open
    fail(circuit, 2)
    assert not circuit.open


@pytest.mark.parametrize("is_silent", [False, True])
def test_every_trial_that_fails_or_is_not_answered_doubles_the_pause_up_to_a_minute(
    circuit, clock, is_silent
):
    fail(circuit)
    pauses = []
    for _ in range(9):
        began = clock.now
        while circuit.open:
            clock.now += 0.5
        pauses.append(clock.now - began)
        circuit.chosen()
        if not is_silent:
            circuit.failed()
    if is_silent:
        assert pauses[:4] == [1.0, 1.0, 2.0, 4.0]
    else:
        assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == 60.0


def test_what_else_fails_during_a_pause_does_not_lengthen_it(circuit, clock):
    fail(circuit, 50)
    clock.now += 1.0
    assert not circuit.open


def test_a_worker_that_was_restarted_is_not_paused(circuit):
    fail(circuit)
    circuit.close()
    assert not circuit.open
