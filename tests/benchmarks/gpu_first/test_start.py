"""The first checks of a GPU, on the CPU."""

from __future__ import annotations

import json
import os

import pytest
import torch

from benchmarks.gpu_first import start
from benchmarks.gpu_first.findings import Findings
from tests.kernels.alone import run_alone

HAVE = {"benchmarks", "services", "structlog", "msgspec", "llguidance"}
CPU = torch.device("cpu")


@pytest.fixture
def findings(monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", os.environ.get("TRITON_CACHE_DIR", ""))  # the check sets its own
    return Findings(None)


@pytest.mark.parametrize("check", ["launch", "all-reduce"])
def test_a_kernel_and_a_group_of_one_are_right_with_few_packages(check, tmp_path):
    done = run_alone("benchmarks.gpu_first.start", HAVE, check, "--dry-run", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads((tmp_path / "found.json").read_text())["verdict"] == "right"


def test_the_compiler_makes_machine_code_for_hopper_without_spills(findings):
    assert start.compiler(findings, CPU)
    assert (findings.found["capability"], findings.found["faults"]) == (90, [])
    assert findings.found["registers"] > 8


def test_a_machine_without_a_c_compiler_fails_the_check(findings, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(FileNotFoundError, match="no-such-compiler"):
        start.compiler(findings, CPU)


def test_a_bare_thread_binds_the_device_and_reads_its_memory(findings):
    assert start.thread(findings, CPU)


def test_a_thread_that_has_no_context_after_it_was_bound_fails_the_check(findings, monkeypatch):
    monkeypatch.setattr(start, "_has_context", lambda device: False)
    assert not start.thread(findings, CPU)
    assert findings.found == {"context_before": False, "context_after": False}
