"""The command takes the whole way on the CPU; here what is cheap of it, and the words of the other steps."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest

from benchmarks.gpu_first import __main__ as command
from benchmarks.gpu_first import machine
from benchmarks.gpu_first.steps import CALLS, FIRST, MACHINE, NIXL
from benchmarks.gpu_first.wheels import PACKAGES
from kernels import gpu_check

STEPS = [step for call in CALLS.values() for step in call.steps]
PARSED = [step for step in STEPS if "benchmarks.gpu_first." not in step.command]


def rehearse(repository, *arguments):
    words = [sys.executable, "-m", "benchmarks.gpu_first", *arguments, "--dry-run"]
    return subprocess.run(words, cwd=repository, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_limits_of_all_steps_fit_into_that_of_their_call(call):
    assert sum(step.limit_s for step in call.steps) <= call.limit_s
    assert (FIRST.limit_s, NIXL.limit_s) == (540.0, 150.0)


def test_the_page_names_every_step_and_its_limit(repository):
    page = (repository / "docs" / "tested.md").read_text()
    table = page[page.index("| step |") : page.index("`--from STEP`")]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    named = {
        (name.strip(" `"), float(limit))
        for names, limits in rows
        for name, limit in zip(names.split(","), limits.split(","), strict=True)
    }
    assert named == {(step.name, step.limit_s) for step in STEPS if step.name != MACHINE}


def test_what_the_steps_need_is_looked_for_and_carried_or_comes_with_torch():
    needed = {name for step in STEPS for name in step.needs}
    assert needed <= set(machine.PACKAGES)
    assert needed - {"triton", "numpy"} <= set(PACKAGES)


def test_both_calls_together_check_every_kernel():
    words = [word for step in STEPS for word in step.command.split()]
    assert set(gpu_check.BENCHES) <= set(words)


@pytest.mark.parametrize("step", PARSED, ids=lambda step: step.name)
@pytest.mark.parametrize("kind", ["command", "rehearsal"])
def test_the_programs_understand_the_words_they_are_given(step, kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "0")  # a dry run sets it for good
    places = {"out": tmp_path, "trace": tmp_path / "t.json.gz", "seconds": 1, "patience": 1}
    module, *words = (word.format_map(places) for word in shlex.split(getattr(step, kind)))
    program = importlib.import_module(module)
    monkeypatch.setattr(program, "not_installed", lambda *names: "nothing is installed")
    if module == "benchmarks.kv_transfer" and "--device" not in words:
        monkeypatch.setattr(program, "Transfer", understood)
        with pytest.raises(LookupError, match="in 1 s"):
            program.main(words)
        return
    assert program.main(words) == 0
    assert "not run: nothing is installed" in capsys.readouterr().out


def understood(plan, seconds):
    raise LookupError(f"{plan.pages} pages in {seconds:.0f} s")


def test_the_second_call_is_rehearsed_and_adds_to_what_is_there(repository, tmp_path):
    (tmp_path / "gpu_first.json").write_text(
        json.dumps({"machine": {}, "calls": {}, "steps": {"engine": {"outcome": "right"}}})
    )
    done = rehearse(repository, "nixl", "--results", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu_first.json").read_text())
    assert {name: step["outcome"] for name, step in found["steps"].items()} == {
        "engine": "right",
        "nixl-host": "right",
        "nixl-vram": "right",
    }
    assert found["steps"]["nixl-vram"]["on"].startswith("CPU: host memory")
    assert found["calls"]["nixl"]["complete"]
    assert found["machine"]["gpu"] is None
    assert "of bare NIXL" in (tmp_path / "gpu_first.log").read_text()


def test_without_a_gpu_it_is_not_run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert command.main(["--results", str(tmp_path)]) == 0
    assert "gpu-first: not run: torch sees no CUDA device here" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_from_a_step_the_others_before_it_are_left_out():
    names = [step.name for step in FIRST.steps if step.name != MACHINE]
    assert [step.name for step in command.chosen("first", None)] == names
    assert [step.name for step in command.chosen("first", "slice-times")] == names[
        names.index("slice-times") :
    ]


def test_a_step_that_does_not_exist_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        command.main(["nixl", "--from", "engine"])
    assert "nixl-host, nixl-vram" in capsys.readouterr().err


def test_the_steps_find_unpacked_wheels_first_and_generated_code():
    found = command.environment({"PYTHONPATH": "own"}, command.ROOT / "site", rehearses=False)
    root = command.ROOT
    assert found["PYTHONPATH"] == f"{root / 'site'}:{root}:{root / 'protos'}:own"
    assert "CUDA_VISIBLE_DEVICES" not in found
    assert command.environment({}, None, rehearses=True)["CUDA_VISIBLE_DEVICES"] == ""


OF_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS", "GPU_PYTHON"}
WAYS = {"gpu-first": "first --from engine", "gpu-first-nixl": "nixl --from engine"}


def commands_of_make(directory, *arguments):
    words = ["make", "--dry-run", "--no-print-directory", *WAYS, "ARGS=--from engine", *arguments]
    # A `make test` around this test hands its own flags and variables on.
    env = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=True, env=env)
    return [line.strip() for line in done.stdout.splitlines()]


def commands_with(python):
    return [f"{python} -m benchmarks.gpu_first {words}" for words in WAYS.values()]


def test_make_tries_the_gpu_with_the_interpreter_that_is_named_and_sets_nothing_up(repository):
    assert commands_of_make(repository, "GPU_PYTHON=some-python") == commands_with("some-python")


def test_make_takes_the_virtual_environment_if_there_is_one(repository, tmp_path):
    shutil.copy(repository / "Makefile", tmp_path)
    assert commands_of_make(tmp_path) == commands_with("python3")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    assert commands_of_make(tmp_path) == commands_with(".venv/bin/python")
