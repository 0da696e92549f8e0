"""The check for a real GPU: all of its way is tried here, at tiny sizes in the interpreter."""

from __future__ import annotations

import csv
import time

import pytest
import torch

from kernels import gpu_check
from kernels.benchmarks import script
from kernels.benchmarks.case import Case
from kernels.benchmarks.ceilings import Ceilings
from kernels.benchmarks.check import Check
from kernels.benchmarks.sizes import Sizes
from kernels.benchmarks.timer import ClockTimer

CEILINGS = Ceilings(bandwidth=1e9, rate=1e12)
CPU = torch.device("cpu")


def make_case(run, shape="tiny", num_bytes=2000, flops=0, by=""):
    return Case("doubling", shape, run, lambda: (torch.full((3,), 2.0),), 1e-3, num_bytes, flops, by=by)


def twice(_):
    return (torch.ones(3) * 2,)


def raising(_):
    raise RuntimeError("out of memory")


def run_cases(*cases, seconds=60.0, timer=None):
    check = Check({"doubling": lambda sizes, device: iter(cases)}, Sizes.tiny(), CPU, seconds, slack=1.0)
    check.compare()
    check.time(timer or ClockTimer(), CEILINGS)
    return check


class FixedTimer:
    """Every call takes 4 us."""

    def seconds(self, run, copies):
        return 4e-6


def test_a_dry_run_finds_every_kernel_right_and_writes_both_files(interpreter, tmp_path):
    assert interpreter(gpu_check.main, ["--dry-run", "--results", str(tmp_path)]) == 0
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
    table = (tmp_path / "kernels.md").read_text()
    assert table.count("| right |") == len(rows)
    assert "dry run in Triton's interpreter" in table


def test_every_kernel_has_a_benchmark_in_the_check(repository):
    found = {path.stem.removeprefix("bench_") for path in repository.glob("kernels/benchmarks/bench_*.py")}
    assert found == set(gpu_check.BENCHES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_that_it_did_not_run(capsys):
    assert gpu_check.main([]) == 0
    assert capsys.readouterr().out == f"gpu-check-kernels: {script.NO_GPU}\n"


def test_without_triton_it_says_that_it_did_not_run(capsys, monkeypatch):
    monkeypatch.setattr(
        gpu_check.importlib.util, "find_spec", lambda name: None if name == "triton" else name
    )
    assert gpu_check.main([]) == 0
    assert capsys.readouterr().out == "gpu-check-kernels: not run: triton not installed\n"


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
    def slow(_):
        time.sleep(0.02)
        return twice(_)

    check = run_cases(make_case(slow), make_case(twice, "other"), seconds=0.01)
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
