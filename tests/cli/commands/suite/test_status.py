from __future__ import annotations

import json
import os

import pytest

from services.cli.commands.suite.status import duration, status_lines
from services.cli.main import main
from services.cli.run_directory.lock import held
from services.cli.run_directory.states import StateFile


def test_people_see_each_service_and_what_is_wrong(suite):
    assert status_lines(suite, now=3610.0) == [
        f"nano, up 1 h 0 min, process {os.getpid()}",
        "SERVICE  STATE              PID      SINCE  STARTS  MEMORY  ADDRESS",
        "decode   restarting           -        5 s       2       -  a:1",
        "gateway  serving     1073741824  1 h 0 min       1       -  127.0.0.1:50049",
        "decode: ended (killed by SIGKILL)",
        "REST http://127.0.0.1:30000/v1, gRPC 127.0.0.1:50050, operator 127.0.0.1:50049",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (90_000, "1 d 1 h")]
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_programs_get_everything_and_the_exit_status_says_whether_all_serves(suite, tmp_path, capsys):
    words = ["status", "--run-dir", str(tmp_path)]
    with held(tmp_path):
        states = StateFile(tmp_path, suite)
        assert main([*words, "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert (found["model"], found["services"][0]["state"]) == ("nano", "restarting")
        states.record("decode", state="serving", pid=os.getpid())
        assert main(words) == 0
        assert " MB " in capsys.readouterr().out


def test_without_a_suite_it_fails_with_what_to_do(tmp_path, capsys):
    assert main(["status", "--run-dir", str(tmp_path)]) == 1
    assert "no suite is running" in (error := capsys.readouterr().err)
    assert "`perigee run` starts one" in error
