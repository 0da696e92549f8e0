from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys

import pytest

from services.cli.commands.suite.restart import restart
from services.cli.main import main
from services.cli.run_directory.lock import held
from services.cli.run_directory.states import ServiceState, StateFile
from services.common.errors import DeadlineExceeded, PreconditionFailed


@pytest.fixture
def decode():
    """A process of the suite that serves."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


@pytest.fixture
def states(suite, tmp_path, decode):
    services = tuple(
        ServiceState(role, "serving", "ready in 3.0 s", pid, "a:1", 5.0, 1)
        for role, pid in (("decode", decode.pid), ("gateway", 1))
    )
    with held(tmp_path):
        yield StateFile(tmp_path, dataclasses.replace(suite, services=services))


def story(states, *steps):
    """A `sleep` during each call of which the suite goes one step on."""
    left = list(steps)

    def sleep(seconds):
        if left:
            states.record("decode", **left.pop(0))

    return sleep


def test_a_service_is_told_to_end_and_waited_for_until_the_new_one_serves(tmp_path, states, decode, capsys):
    steps = (
        {"state": "replacing", "detail": "asked to end"},
        {"detail": "its successor is loading… 1 s"},
        {"detail": "its successor is loading… 2 s"},
        {"state": "serving", "pid": 8, "detail": "successor ready in 3.0 s, process 8"},
    )
    restart(tmp_path, "decode", sleep=story(states, *steps))
    assert decode.wait(60) == -signal.SIGTERM
    assert capsys.readouterr().out.splitlines() == [
        "decode: asked to end",
        "decode: its successor is loading… 1 s",
        "decode: successor ready in 3.0 s, process 8",
    ]


def test_the_old_process_does_not_count_as_the_new_one(tmp_path, states):
    now = iter(range(0, 100_000, 500))
    with pytest.raises(
        DeadlineExceeded, match=r"decode does not serve again after 1235 s \(ready in 3\.0 s\)"
    ):
        restart(tmp_path, "decode", lambda: next(now), lambda seconds: None)


def test_a_service_that_does_not_serve_is_left_alone(tmp_path, states, decode):
    states.record("decode", state="replacing", detail="its successor is loading… 1 s")
    with pytest.raises(PreconditionFailed, match=r"decode is replacing \(its successor is loading… 1 s\)"):
        restart(tmp_path, "decode")
    assert decode.poll() is None


def test_a_process_that_is_not_the_suite_s_gets_no_signal(tmp_path, states):
    """Another one may have got the number of a worker that has ended."""
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True
    ) as shell:
        grandchild = int(shell.stdout.readline())
        try:
            states.record("decode", pid=grandchild)
            with pytest.raises(PreconditionFailed, match="has just ended"):
                restart(tmp_path, "decode", lambda: 0.0, end_at_once)
            assert shell.poll() is None
        finally:
            os.kill(grandchild, signal.SIGKILL)


def end_at_once(seconds):
    raise AssertionError("it was taken for a process of the suite")


def test_a_service_that_the_suite_has_not_is_named(tmp_path, states, capsys):
    assert main(["restart", "prefill", "--run-dir", str(tmp_path)]) == 1
    assert "the suite has no prefill; it has decode, gateway" in capsys.readouterr().err
