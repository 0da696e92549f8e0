"""Steps run one after another, each within its limit, and the JSON says what became of all of them."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu_first import record
from benchmarks.gpu_first.__main__ import environment
from benchmarks.gpu_first.call import Place, Runner
from benchmarks.gpu_first.record import Record
from benchmarks.gpu_first.steps import Call, Step
from tests.support.manual_clock import ManualClock

MACHINE = {"gpu": "some GPU", "python": "3.12", "torch": "2.11", "packages": {"triton": "3.6", "numpy": "2"}}
MODULE = "tests.benchmarks.gpu_first.doubles"


def step(fate: str, limit_s: float = 60.0) -> Step:
    return Step(fate, limit_s, f"{MODULE} {fate} {{out}}", f"{MODULE} {fate} {{out}}", "a double")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs steps as a call; returns whether all is well, and the JSON."""
    place = Place(tmp_path)

    def run_steps(*steps: Step, limit_s: float = 300.0, clock=time.monotonic):
        monkeypatch.setattr(record, "_ORDER", [each.name for each in steps])
        call = Call("first", limit_s, steps)
        runner = Runner(call, environment(os.environ, None, rehearses=True), rehearses=True, clock=clock)
        document = Record.continued(place.record)
        document.begin_call(call, steps, MACHINE)
        well = runner.run(steps, document, place, MACHINE)
        return well, json.loads(place.record.read_text())

    run_steps.place = place
    return run_steps


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def child_of(place: Place) -> int:
    (pid,) = re.findall(r"^child (\d+)$", place.log.read_text(), re.MULTILINE)
    return int(pid)


def test_a_step_that_hangs_is_killed_with_all_it_started_and_the_next_one_runs(run):
    began = time.monotonic()
    well, found = run(step("hangs", 8.0), step("right"))
    assert time.monotonic() - began < 45
    assert not well
    hangs, right = found["steps"]["hangs"], found["steps"]["right"]
    assert (hangs["outcome"], right["outcome"]) == ("killed", "right")
    assert hangs["reason"].startswith("killed after ")
    assert not is_alive(child_of(run.place))
    assert right["found"] == {"answer": 42}
    assert found["calls"]["first"]["complete"]
    # What it had found is kept, and the log says where it stood.
    assert hangs["tables"] == {
        "rows": {
            "facts": {"device": "some GPU", "reads": "4,000 GB/s: most"},
            "rows": [{"what": "0", "verdict": "right"}, {"what": "1", "verdict": "not run"}],
        }
    }
    assert "in hangs" in run.place.log.read_text()


def test_each_fate_has_its_outcome_and_a_reason(run):
    fates = ("right", "wrong", "broken", "missing", "blocked", "dies")
    well, found = run(*map(step, fates))
    assert not well
    assert {name: (each["outcome"], each["reason"]) for name, each in found["steps"].items()} == {
        "right": ("right", ""),
        "wrong": ("WRONG", "ended with status 1: one of the rows is wrong"),
        "broken": ("failed", "ended with status 1: RuntimeError: no such page"),
        "missing": ("not run", "not run: nixl not installed"),
        "blocked": ("not run", "not run: NIXL cannot register memory"),
        "dies": ("failed", found["steps"]["dies"]["reason"]),
    }
    assert found["steps"]["dies"]["reason"].startswith("ended by SIGSEGV")
    assert {each["on"] for each in found["steps"].values()} == {"CPU: a double"}


def test_what_is_not_run_is_no_failure(run):
    assert run(step("missing"), step("right"))[0]


def test_a_step_that_lacks_a_package_is_not_run_and_names_it(run):
    well, found = run(replace(step("right"), needs=("triton", "structlog", "nixl")), step("missing"))
    assert well
    right = found["steps"]["right"]
    assert (right["outcome"], right["reason"]) == ("not run", "structlog and nixl not installed")
    assert right["software"] == "Python 3.12, torch 2.11, triton 3.6"


def test_a_step_that_ends_well_leaves_no_process_behind(run):
    assert run(step("leaves_a_child"))[0]
    assert not is_alive(child_of(run.place))


def test_a_call_does_not_outlast_its_limit(run):
    clock = ManualClock()
    steps = [step("right"), step("missing")]
    runs = iter((0.0, 0.0, 0.0, 96.0))  # the first step takes nearly all of the time

    def later():
        clock.now += next(runs, 0.0)
        return clock()

    well, found = run(*steps, limit_s=106.0, clock=later)
    assert well
    assert [(each["outcome"], each["reason"]) for each in found["steps"].values()] == [
        ("right", ""),
        ("not run", "no time was left"),
    ]


def test_a_run_from_a_later_step_keeps_the_results_of_the_earlier_ones(run, monkeypatch):
    run(step("right"), step("wrong"))
    before = json.loads(run.place.record.read_text())["steps"]
    monkeypatch.setattr(record, "_ORDER", ["right", "wrong"])
    document = Record.continued(run.place.record)
    call = Call("first", 300.0, (step("right"), step("wrong")))
    document.begin_call(call, call.steps[1:], MACHINE)
    meanwhile = json.loads(run.place.record.read_text())
    assert meanwhile["steps"] == {"right": before["right"]}
    assert not meanwhile["calls"]["first"]["complete"]
    document.put(call.steps[1], outcome="running")
    assert list(json.loads(run.place.record.read_text())["steps"]) == ["right", "wrong"]
