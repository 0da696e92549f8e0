from __future__ import annotations

import os
from dataclasses import replace

import pytest

from services.cli.run_directory.lock import held
from services.cli.run_directory.states import ServiceState, StateFile, SuiteState, read_suite
from services.common.errors import NotFound
from tests.support.manual_clock import ManualClock

SUITE = SuiteState(
    os.getpid(), "nano", "http://a:1", "a:2", "a:3", since=5.0, stop_seconds=35.0, start_seconds=300.0,
    services=(ServiceState("decode", address="a:4", since=5.0), ServiceState("gateway", since=5.0)),
)  # fmt: skip


@pytest.fixture
def directory(tmp_path):
    with held(tmp_path):
        yield tmp_path


def test_what_is_recorded_is_what_is_read(directory):
    states = StateFile(directory, SUITE, lambda: 9.0)
    assert read_suite(directory) == SUITE
    states.record("decode", state="serving", detail="ready", pid=7, starts=1)
    decode, gateway = read_suite(directory).services
    assert decode == ServiceState("decode", "serving", "ready", 7, "a:4", 9.0, 1)
    assert gateway == SUITE.services[1]
    states.say("waiting for decode")
    assert read_suite(directory).detail == "waiting for decode"


def test_a_state_lasts_since_it_began_whatever_else_changes(directory):
    clock = ManualClock()
    states = StateFile(directory, SUITE, clock)
    clock.now = 10.0
    states.record("decode", state="serving", pid=7)
    clock.now = 20.0
    states.record("decode", state="serving", detail="still")
    states.record("decode", detail="more")
    assert read_suite(directory).services[0].since == 10.0


def test_a_suite_serves_when_all_its_services_do(directory):
    states = StateFile(directory, SUITE)
    states.record("decode", state="serving")
    assert not read_suite(directory).serves
    states.record("gateway", state="serving")
    assert read_suite(directory).serves


def test_what_a_suite_left_behind_is_no_suite(tmp_path):
    with held(tmp_path):
        StateFile(tmp_path, SUITE)
    with pytest.raises(NotFound, match=rf"no suite is running with its logs in {tmp_path}.*--run-dir"):
        read_suite(tmp_path)
    with held(tmp_path):
        StateFile(tmp_path, replace(SUITE, pid=1))
        with pytest.raises(NotFound, match=rf"process {os.getpid()}\) is only beginning"):
            read_suite(tmp_path)


def test_a_directory_that_is_not_there_has_no_suite(tmp_path):
    with pytest.raises(NotFound, match="no suite is running"):
        read_suite(tmp_path / "absent")


def test_a_file_that_is_removed_or_cannot_be_written_stops_nobody(directory):
    states = StateFile(directory, SUITE)
    states.close()
    states.close()
    assert not (directory / "suite.json").exists()
    gone = StateFile(directory / "absent", SUITE)
    gone.record("decode", state="serving")
    gone.close()
