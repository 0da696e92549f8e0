"""The layer slice for a real GPU: its way is tried at tiny sizes in the interpreter."""

from __future__ import annotations

import csv
import gzip
import json
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks import layer_slice, slice_logits, slice_script
from benchmarks.slice_check import SliceCheck
from benchmarks.slice_logits import SliceLogits
from benchmarks.slice_row import Row
from benchmarks.slice_sizes import KIMI, TINY, Limits, Sizes
from kernels.benchmarks.ceilings import Ceilings
from services.engine.kernel_model.decode_graphs import SIZES
from services.engine.model.attention.expanded_attention import worthwhile_tokens
from tests.kernels.alone import run_alone
from tests.support.manual_clock import ManualClock

H200 = Ceilings(bandwidth=4.3e12, rate=790e12)
STEPS = ("prompt of 35", "prompt of 5", "prompt of 23", "decode step 1 of 3 rows", "decode step 2 of 3 rows")


def test_a_dry_run_with_few_packages_finds_the_logits_of_both_modes_right_and_writes_all_files(tmp_path):
    wheels, trace = {"structlog", "services", "benchmarks"}, tmp_path / "slice.json.gz"
    words = ("--dry-run", "--results", str(tmp_path), "--trace", str(trace))
    done = run_alone("benchmarks.layer_slice", wheels, *words)
    assert done.returncode == 0, done.stderr + done.stdout
    with (tmp_path / "layer_slice.csv").open() as file:
        rows = list(csv.DictReader(file))
    logits = [f"logits, {mode}, {step}" for mode in ("fast", "deterministic") for step in STEPS]
    logits.append("logits, deterministic, the same bits alone as in a batch")
    found = {row["what"]: row["verdict"] for row in rows}
    assert found == {
        **dict.fromkeys(logits, "right"),
        "decode B=3 context=70": "",
        "prefill 20 in chunks of 8192": "",
        "trace in slice.json.gz": "",
    }
    assert all(float(row["microseconds"]) > 0 for row in rows if not row["verdict"] and not row["note"])
    assert json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    table = (tmp_path / "layer_slice.md").read_text()
    assert "dry run" in table
    assert "- complete: yes" in table


@pytest.mark.parametrize("part", ["logits", "times"])
def test_one_part_is_run_without_the_other(part, tmp_path, monkeypatch):
    made = []
    for name, kind in (("logits", "SliceLogits"), ("times", "SliceTimes")):
        cases = SimpleNamespace(cases=lambda: iter(()))
        monkeypatch.setattr(slice_script, kind, lambda *_, name=name, cases=cases: made.append(name) or cases)
    monkeypatch.setattr(slice_script.Ceilings, "measure", lambda *_, **__: H200)
    assert slice_script.try_on_cpu(tmp_path, slice_script.SlicePlan((part,), 60.0)) == 0
    assert made == [part]


def test_batches_of_the_dry_run_fill_no_graph():
    assert not set(TINY.batches) & set(SIZES)


def make_logits(sizes):
    return SliceLogits(sizes, torch.device("cpu"), lambda compute: pytest.fail("nothing is recorded"))


def test_a_prompt_is_long_enough_for_the_expanded_form_at_full_width():
    least = worthwhile_tokens(KIMI)
    assert least == 171
    lengths = [len(item.token_ids) for step in make_logits(Sizes(KIMI))._prefills() for item in step]
    assert min(lengths) < least < max(lengths)


def test_decode_steps_go_on_behind_the_prompts():
    logits = make_logits(TINY)
    ends = [len(item.token_ids) for step in logits._prefills() for item in step]
    starts = [[item.start for item in step] for step in logits._decodes()]
    assert starts == [ends, [end + 1 for end in ends]]


@pytest.mark.parametrize("deterministic", [False, True])
def test_logits_of_a_mode_come_from_a_model_in_that_mode(monkeypatch, deterministic):
    def make(config, weights, mode):
        raise LookupError(mode)

    monkeypatch.setattr(slice_logits, "KernelTextModel", make)
    with pytest.raises(LookupError) as made:
        next(make_logits(TINY)._mode(deterministic, []))
    assert made.value.args == (deterministic,)


@pytest.mark.parametrize(("weight", "verdict"), [(0.0, "right"), (1e-7, "WRONG")])
def test_bits_that_depend_on_the_batch_are_wrong(monkeypatch, weight, verdict):
    def run(step):
        return torch.tensor([[1.0 + weight * len(step), item.start] for item in step], dtype=torch.float64)

    monkeypatch.setattr(slice_logits, "_Steps", lambda *_: run)
    logits, row = make_logits(TINY), Row("bits")
    found = [run(step) for step in (*logits._prefills(), *logits._decodes())]
    logits._same_bits(None, found, row)
    assert row.verdict == verdict


@pytest.mark.parametrize(
    ("batch", "context", "microseconds"), [(1, 8192, 585), (64, 8192, 5911), (256, 32768, 16125)]
)
def test_the_limit_of_a_decode_step_is_the_bytes_that_it_has_to_read(batch, context, microseconds):
    """On an H200, by hand."""
    assert Limits(KIMI, H200).decode(batch, context) * 1e6 == pytest.approx(microseconds, rel=0.02)


def run_cases(*cases, clock=time.monotonic):
    saved = []

    def save(rows):
        saved.append([(row.what, row.verdict) for row in rows])

    check = SliceCheck(60.0, save, clock)
    check.run("part", iter(cases))
    return check, saved


def right(row):
    row.judge(True)


def test_a_case_that_raises_fails_and_the_others_go_on():
    def broken(row):
        raise ValueError("no such page")

    check, _ = run_cases(("broken", broken), ("other", right))
    assert check.failed
    assert [(row.verdict, row.note) for row in check.rows] == [
        ("failed", "ValueError('no such page')"),
        ("right", ""),
    ]


def test_a_model_that_cannot_be_made_fails_its_part():
    def cases():
        raise ValueError("no weights")
        yield

    check, _ = run_cases()
    check.run("logits", cases())
    assert [(row.what, row.verdict) for row in check.rows] == [("logits", "failed")]


def test_what_does_not_fit_is_not_run_and_no_failure():
    def large(row):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    check, _ = run_cases(("large", large))
    assert [row.note for row in check.rows] == ["not run: CUDA out of memory."]
    assert not check.failed


def test_what_no_time_is_left_for_is_said_to_be_not_run():
    clock = ManualClock()

    def slow(row):
        clock.now += 61.0  # longer than all the time there is

    check, _ = run_cases(("slow", slow), ("other", right), clock=clock)
    assert [(row.what, row.note) for row in check.rows] == [
        ("slow", ""),
        ("part", "not run: no time was left"),
    ]


def test_rows_are_saved_before_one_that_may_hang():
    _, saved = run_cases(("first", right), ("hangs", lambda row: None))
    assert [("first", "right"), ("hangs", "")] in saved


@pytest.mark.parametrize(("error", "verdict"), [(0.02, "right"), (0.04, "WRONG"), (float("nan"), "WRONG")])
def test_logits_are_right_within_the_tolerance_of_their_norm(error, verdict):
    row, wanted = Row("logits"), torch.ones(4)
    row.compare(wanted * (1 + error), wanted)
    assert row.verdict == verdict


def test_without_a_gpu_it_is_not_run(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert layer_slice.main([]) == 0
    assert capsys.readouterr().out == "layer slice: not run: torch sees no CUDA device here\n"


def test_without_a_wheel_that_it_needs_it_is_not_run():
    done = run_alone("benchmarks.layer_slice", {"services", "benchmarks"})
    assert (done.returncode, done.stdout) == (0, "layer slice: not run: structlog not installed\n")
