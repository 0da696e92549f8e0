"""The benchmark moves real bytes between processes; how fast is nothing for a test."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import kv_transfer


def test_every_way_moves_all_bytes_and_the_rates_are_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kv_transfer, "BOUND", 0.0)
    out = tmp_path / "transfer.json"
    arguments = ["--pages", "3", "--layers", "2", "--rounds", "1", "--out", str(out)]
    assert kv_transfer.main(arguments) == 0
    found = json.loads(out.read_text())
    assert found["blocks"] == 6
    assert set(found["gigabytes_per_second"]) == {"transfer thread", "bare NIXL", "copy in memory"}
    assert all(rate > 0 for rate in found["gigabytes_per_second"].values())
    assert "of bare NIXL" in capsys.readouterr().out


def test_bytes_that_differ_from_the_sources_are_noticed(monkeypatch):
    plan = kv_transfer.Plan("cpu", 2, 1, 1)
    monkeypatch.setattr(kv_transfer.Copy, "read", lambda self, local, remote: None)
    with pytest.raises(RuntimeError, match="copy in memory: the bytes differ"):
        kv_transfer.run(plan)


def test_without_the_gpu_it_is_asked_for_it_is_not_run(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert kv_transfer.main(["--device", "cuda:0"]) == 0
    assert "not run" in capsys.readouterr().out
