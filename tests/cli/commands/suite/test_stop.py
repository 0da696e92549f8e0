from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.cli.commands.suite.stop import until_ended
from services.cli.main import main
from services.cli.run_directory.lock import held
from services.cli.run_directory.states import StateFile
from services.common.errors import DeadlineExceeded

# A supervisor without services: after SIGTERM it says what it waits for, and if patient waits for SIGINT too.
SUPERVISOR = """
import os, signal, sys, time
from pathlib import Path
from services.cli.run_directory.lock import held
from services.cli.run_directory.states import StateFile, SuiteState
directory, patient = Path(sys.argv[1]), sys.argv[2] == "patient"
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
with held(directory):
    states = StateFile(directory, SuiteState(os.getpid(), "nano", "", "", "", 0.0, 35.0, 300.0))
    print("up", flush=True)
    signal.sigwait([signal.SIGTERM])
    states.say("waiting for gateway (2 requests may finish), 30 s at most")
    if patient:
        signal.sigwait([signal.SIGINT])
    time.sleep(0.5)
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def start(kind):
        command = [sys.executable, "-c", SUPERVISOR, str(tmp_path), kind]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "up\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stop(directory, *words):
    return main(["stop", *words, "--run-dir", str(directory)])


def test_it_returns_when_the_suite_has_ended_and_says_what_that_waits_for(start, tmp_path, capsys):
    process = start("hasty")
    assert stop(tmp_path) == 0
    assert process.wait(60) == 0
    assert capsys.readouterr().out.splitlines() == [
        "waiting for gateway (2 requests may finish), 30 s at most",
        "stopped",
    ]


def test_now_does_not_wait(start, tmp_path):
    process = start("patient")
    assert stop(tmp_path, "--now") == 0
    assert process.wait(60) == 0


def test_without_a_suite_it_fails_with_what_to_do(tmp_path, capsys):
    assert stop(tmp_path) == 1
    assert "perigee stop: no suite is running" in capsys.readouterr().err


def test_a_suite_that_does_not_end_is_given_up_on(suite, tmp_path):
    now = iter(range(0, 1000, 20))
    with held(tmp_path):
        StateFile(tmp_path, suite)
        with pytest.raises(DeadlineExceeded, match=r"has not ended after \d0 s; `perigee stop --now`"):
            until_ended(tmp_path, os.getpid(), lambda: next(now), lambda seconds: None)
