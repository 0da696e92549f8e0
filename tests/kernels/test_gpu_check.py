"""The check for a real GPU: all of its way is tried here, at tiny sizes in the interpreter."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kernels import gpu_check
from kernels.benchmarks import script, timer
from kernels.benchmarks.case import Case
from kernels.benchmarks.ceilings import Ceilings
from kernels.benchmarks.check import Check
from kernels.benchmarks.sizes import Sizes
from kernels.benchmarks.timer import ClockTimer
from tests.kernels.alone import run_alone
from tests.support.manual_clock import ManualClock

CEILINGS = Ceilings(bandwidth=1e9, rate=1e12)
CPU = torch.device("cpu")


def make_case(run, shape="tiny", num_bytes=2000, flops=0, by=""):
    return Case("doubling", shape, run, lambda: (torch.full((3,), 2.0),), 1e-3, num_bytes, flops, by=by)


def twice(_):
    return (torch.ones(3) * 2,)


def raising(_):
    raise RuntimeError("out of memory")


def run_cases(*cases, timer=None, clock=time.monotonic):
    benches = {"doubling": lambda sizes, device: iter(cases)}
    check = Check(benches, Sizes.tiny(), CPU, 60.0, slack=1.0, clock=clock)
    check.compare()
    check.time(timer or ClockTimer(), CEILINGS)
    return check


class FixedTimer:
    """Every call takes 4 us."""

    def seconds(self, run, copies):
        return 4e-6


HANGS = """
import os, signal, sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
import torch
from kernels.benchmarks import script
from kernels.benchmarks.case import Case
from kernels.benchmarks.limit import time_limit

def case(shape, run):
    return Case("doubling", shape, run, lambda: (torch.ones(3),), 1e-3, 12)

cases = [case("right", lambda _: (torch.ones(3),)), case("hangs", lambda _: signal.pause())]
with time_limit(0.5):
    script.try_on_cpu({"doubling": lambda sizes, device: iter(cases)}, 60.0, Path(sys.argv[1]))
"""


def test_a_dry_run_with_torch_and_triton_alone_finds_every_kernel_right_and_writes_both_files(tmp_path):
    done = run_alone("kernels.gpu_check", (), "--dry-run", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    with (tmp_path / "kernels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} == {"right"}
    assert all(float(row["microseconds"]) > 0 for row in rows)
    assert {row["kernel"] for row in rows} == {
        "rms_norm",
        "add_rms_norm",
        "silu_mul",
        "rope",
        "latent_store",
        "router",
        "expert_alignment",
        "page_gather",
        "page_scatter",
        "mla_decode",
        "mla_prefill",
        "experts_int4",
        "experts_plain",
        "sampling",
    }
    modes = {(row["kernel"], row["shape"].split()[-1]) for row in rows}
    of_two_modes = ("mla_decode", "experts_int4", "experts_plain")
    assert {(kernel, mode) for kernel in of_two_modes for mode in ("fast", "deterministic")} <= modes
    table = (tmp_path / "kernels.md").read_text()
    assert table.count("| right |") == len(rows)
    assert "dry run in Triton's interpreter" in table
    assert "- complete: yes" in table


def test_a_kernel_that_hangs_ends_the_check_and_keeps_what_was_found_before(tmp_path):
    began = time.monotonic()
    words = [sys.executable, "-c", HANGS, str(tmp_path)]
    root = Path(gpu_check.__file__).parents[1]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=120)
    assert time.monotonic() - began < 60
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    with (tmp_path / "kernels.csv").open() as file:
        found = [(row["shape"], row["verdict"]) for row in csv.DictReader(file)]
    assert found == [("right", "right"), ("hangs", "not run")]
    assert "- complete: no" in (tmp_path / "kernels.md").read_text()


def test_some_kernels_are_checked_within_the_seconds_that_are_given(monkeypatch):
    asked = []
    monkeypatch.setattr(gpu_check, "_check", lambda *words: asked.append(words) or 0)
    assert gpu_check.main(["--kernels", "experts", "rope", "--seconds", "60"]) == 0
    assert gpu_check.main([]) == 0
    assert asked == [
        (False, ["experts", "rope"], 60.0, None),
        (False, gpu_check.BENCHES, gpu_check.ROWS_S, None),
    ]


def test_every_kernel_has_a_benchmark_in_the_check(repository):
    found = {path.stem.removeprefix("bench_") for path in repository.glob("kernels/benchmarks/bench_*.py")}
    assert found == set(gpu_check.BENCHES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_that_it_did_not_run(capsys):
    assert gpu_check.main([]) == 0
    assert capsys.readouterr().out == f"gpu check: {script.NO_GPU}\n"


def test_without_triton_it_says_that_it_did_not_run(capsys, monkeypatch):
    monkeypatch.setattr(
        gpu_check.importlib.util, "find_spec", lambda name: None if name == "triton" else name
    )
    assert gpu_check.main([]) == 0
    assert capsys.readouterr().out == "gpu check: not run: triton not installed\n"


def test_a_wrong_result_fails_the_check_and_is_not_timed():
    check = run_cases(make_case(lambda _: (torch.tensor([2.0, 2.0, 2.1]),)), make_case(twice, "other"))
    assert check.failed
    assert [(row.verdict, bool(row.microseconds)) for row in check.rows] == [
        ("WRONG", False),
        ("right", True),
    ]


def test_a_value_that_is_not_finite_is_wrong():
    assert run_cases(make_case(lambda _: (torch.tensor([2.0, 2.0, float("nan")]),))).failed


def test_a_case_that_raises_fails_and_the_others_go_on():
    check = run_cases(make_case(raising), make_case(twice, "other"))
    assert check.failed
    assert [(row.verdict, row.note) for row in check.rows] == [
        ("failed", "RuntimeError('out of memory')"),
        ("right", ""),
    ]


def test_inputs_that_cannot_be_made_fail_their_kernel_alone():
    def cases(sizes, device):
        raise RuntimeError("out of memory")
        yield

    benches = {"large": cases, "doubling": lambda sizes, device: iter([make_case(twice)])}
    check = Check(benches, Sizes.tiny(), CPU, 60.0, slack=1.0)
    check.compare()
    assert [(row.kernel, row.shape, row.verdict) for row in check.rows] == [
        ("large", "inputs", "failed"),
        ("doubling", "tiny", "right"),
    ]


def test_what_no_time_is_left_for_is_said_to_be_not_run():
    clock = ManualClock()

    def slow(_):
        clock.now += 61.0  # longer than all the time there is
        return twice(_)

    check = run_cases(make_case(slow), make_case(twice, "other"), clock=clock)
    assert [(row.shape, row.verdict, row.note) for row in check.rows] == [
        ("tiny", "right", ""),
        ("further cases", "not run", "no time was left"),
    ]
    assert not check.failed


def test_anothers_time_is_told_as_a_multiple_of_ours():
    class Timer:
        def seconds(self, run, copies):
            return 4e-6 if run is twice else 6e-6

    check = run_cases(make_case(twice), make_case(lambda copy: twice(copy), by="another"), timer=Timer())
    assert [(row.by, row.our_speedup) for row in check.rows] == [("", ""), ("another", "1.50")]


def test_anothers_wrong_result_is_said_and_not_ours():
    check = run_cases(make_case(twice), make_case(lambda _: (torch.zeros(3),), by="another"))
    assert [row.verdict for row in check.rows] == ["right", "WRONG"]
    assert not check.failed


@pytest.mark.parametrize(("num_bytes", "flops", "percent"), [(2000, 0, "50"), (2000, 3_000_000, "75")])
def test_the_limit_is_the_larger_of_bytes_and_operations(num_bytes, flops, percent):
    row = run_cases(make_case(twice, num_bytes=num_bytes, flops=flops), timer=FixedTimer()).rows[0]
    assert (row.microseconds, row.percent_of_limit) == ("4.0", percent)


def test_there_are_as_many_copies_as_the_cache_cannot_keep():
    sizes = Sizes(cache_bytes=60_000_000)
    assert [sizes.copies(size) for size in (10**9, 100_000_000, 1000)] == [1, 2, 128]


@pytest.mark.parametrize(
    ("seconds", "copies", "calls"), [(1e-5, 1, 10), (1e-5, 4, 12), (0.1, 1, 1), (0.1, 4, 4), (0.005, 1, 4)]
)
def test_a_replay_has_ten_calls_or_what_fits_into_its_time(seconds, copies, calls):
    assert timer._calls(seconds, copies) == calls
