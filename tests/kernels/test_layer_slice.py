"""The layer slice for a real GPU: its way is tried at tiny sizes in the interpreter."""

from __future__ import annotations

import csv

import pytest
import torch

from benchmarks import layer_slice
from kernels.benchmarks.ceilings import Ceilings

H200 = Ceilings(bandwidth=4.3e12, rate=790e12)


def test_a_dry_run_finds_the_logits_right_and_writes_both_files(interpreter, tmp_path):
    assert interpreter(layer_slice.main, ["--dry-run", "--results", str(tmp_path)]) == 0
    with (tmp_path / "layer_slice.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["right"] * 3 + [""] * 2
    assert all(float(row["microseconds"]) > 0 for row in rows if not row["verdict"])
    assert "dry run" in (tmp_path / "layer_slice.md").read_text()


@pytest.mark.parametrize(
    ("batch", "context", "microseconds"), [(1, 8192, 585), (64, 8192, 5911), (256, 32768, 16125)]
)
def test_the_limit_of_a_decode_step_is_the_bytes_that_it_has_to_read(batch, context, microseconds):
    """On an H200, by hand."""
    made = layer_slice.Slice(layer_slice.Sizes(layer_slice.KIMI), torch.device("cpu"), H200)
    assert made._decode_limit(batch, context) * 1e6 == pytest.approx(microseconds, rel=0.02)


def test_without_a_gpu_it_is_not_run(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert layer_slice.main([]) == 0
    assert "not run" in capsys.readouterr().out
