"""The numbered checks of the first hour: how they are counted and written, and what they measure by."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from scripts.first_hour import commands, serving, setting_up
from scripts.first_hour.__main__ import CHECKS, main, run_checks
from scripts.first_hour.clone import Clone
from scripts.first_hour.downloads import downloaded_bytes
from scripts.first_hour.failed import Failed, expect
from scripts.first_hour.watched import Line, Watched, longest_silence


@pytest.fixture
def watch(tmp_path):
    """Watches a Python program."""
    watched = []

    def start(program):
        watched.append(Watched([sys.executable, "-u", "-c", program], tmp_path, os.environ))
        return watched[-1]

    yield start
    for each in watched:
        each.kill()


def test_each_check_has_a_number_and_a_verdict_and_one_that_fails_stops_no_other(tmp_path):
    def holds(clone):
        return f"in {clone.directory.name}"

    def fails(clone):
        raise Failed("first\nsecond")

    def breaks(clone):
        raise KeyError("x")

    lines = []
    clone = Clone(tmp_path, tmp_path / "clone", tmp_path, "python3")
    assert run_checks([("a", fails), ("b", breaks), ("c", holds)], clone, lines.append) == 2
    assert lines == ["1. a: failed (first / second)", "2. b: failed (KeyError: 'x')", "3. c: ok (in clone)"]


def test_what_is_expected_is_an_error_only_if_it_is_not_so():
    expect([1], "never")
    with pytest.raises(Failed, match="this"):
        expect([], "this")


def test_nothing_of_this_process_reaches_into_the_clone(monkeypatch, tmp_path):
    monkeypatch.setenv("MAKEFLAGS", "ARGS=x")
    monkeypatch.setenv("PERIGEE_KV_PAGES", "1")
    monkeypatch.setenv("PATH", f"/x/.venv/bin:{os.environ['PATH']}")
    clone = Clone(tmp_path, tmp_path, tmp_path / "home", "python3")
    shown = clone.run("sh", "-c", 'echo "$HOME:$MAKEFLAGS:$PERIGEE_KV_PAGES:$PATH"').out
    assert shown.startswith(f"{tmp_path}/home:::")
    assert ".venv" not in shown


def test_every_file_that_pip_fetched_counts_once_wherever_it_comes_from(tmp_path):
    wheel = tmp_path / "torch-2.13.0+cpu-cp311-linux.whl"
    wheel.write_bytes(b"x" * 5000)
    log = [
        f"Processing {wheel}",
        "Processing ./gone/torch-2.13.0+cpu-cp311-linux.whl (from perigee)",
        "  Downloading numpy-2.4.6-cp311.whl.metadata (6 kB)",
        "  Downloading numpy-2.4.6-cp311.whl (16.5 MB)",
        "  Downloading https://host.example/torch-2.13.0%2Bcpu-cp311-linux.whl (190.2 MB)",
        "Using cached idna-3.11.whl (71 kB)",
        "Installing collected packages: numpy",
    ]
    assert downloaded_bytes(log) == 5000 + 6e3 + 16.5e6 + 71e3


def test_the_longest_silence_counts_from_the_start_of_the_process():
    assert longest_silence([]) == 0
    assert longest_silence([Line(3.0, "a"), Line(3.5, "b")]) == 3.0
    assert longest_silence([Line(1.0, "a"), Line(9.0, "b"), Line(10.0, "c")]) == 8.0


def test_a_line_is_waited_for_and_its_absence_is_told_with_the_last_lines(watch):
    program = watch("print('one'); print('two')")
    assert program.until("two", 60).text == "two"
    with pytest.raises(Failed, match="it ended without 'three': one / two"):
        program.until("three", 60)


PARENT = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *_: print('parent'))
subprocess.Popen([sys.executable, '-c', "import signal; print('up', flush=True); signal.pause()"]).wait()
"""


def test_an_interrupt_reaches_the_whole_group(watch):
    program = watch(PARENT)
    program.until("up", 60)
    program.interrupt()
    program.wait(60)
    assert "parent" in program.text
    assert "KeyboardInterrupt" in program.text


def test_the_tests_that_checks_name_exist(repository):
    modules = (commands, serving, setting_up)
    sources = "".join(Path(module.__file__).read_text() for module in modules)
    sources = sources.replace("{tests}", "tests/scripts/test_environment.py")
    named = set(re.findall(r"(tests/[\w/]+(?:\.py)?)(?:::(\w+))?", sources))
    assert len(named) > 10
    for path, function in named:
        assert (repository / path).exists(), path
        assert not function or f"def {function}(" in (repository / path).read_text(), function


def test_no_check_is_listed_twice():
    assert len(CHECKS) == len({what for what, _ in CHECKS}) == len({check for _, check in CHECKS})


def test_a_flag_that_is_none_starts_nothing():
    with pytest.raises(SystemExit) as caught:
        main(["--nothing"])
    assert caught.value.code == 2
