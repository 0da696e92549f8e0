"""The benchmark moves real bytes between processes; how fast is nothing for a test."""

from __future__ import annotations

import csv
import importlib.util
import json
import time
from contextlib import closing

import pytest

from benchmarks import kv_transfer, transfer_ways
from benchmarks.child import Blocked, Child, Wrong
from benchmarks.transfer_plan import Plan

PLAN = Plan("cpu", 2, 1, 1)


@pytest.fixture
def offer():
    """The offer of a running source."""
    with closing(Child("source", kv_transfer.WAYS, "serve", PLAN)) as source:
        assert source.receive(time.monotonic() + 60) == "cpu"
        yield transfer_ways.offer_from_hex(source.receive(time.monotonic() + 60))


@pytest.fixture
def doubles(monkeypatch):
    """Sources and readers of several fates, see there."""
    monkeypatch.setattr(kv_transfer, "WAYS", "tests.benchmarks.doubles")


def check(device, directory, **bound):
    """The exit status, and the rows that were written for the GPU."""
    status = kv_transfer.check_on_gpu(Plan(device, 1, 1, 1), directory, **bound)
    with (directory / "some-gpu/nixl.csv").open() as file:
        return status, list(csv.DictReader(file))


def test_every_way_moves_all_bytes_and_the_rates_are_written(tmp_path, capsys):
    out = tmp_path / "transfer.json"
    arguments = ["--pages", "3", "--layers", "2", "--rounds", "1", "--bound", "0", "--out", str(out)]
    assert kv_transfer.main(arguments) == 0
    found = json.loads(out.read_text())
    assert found["entries"] == 6
    assert set(found["gigabytes_per_second"]) == {"transfer thread", "bare NIXL", "copy in memory"}
    assert all(rate > 0 for rate in found["gigabytes_per_second"].values())
    assert found["into_host"] > 0
    assert "of bare NIXL" in capsys.readouterr().out


def test_bytes_that_differ_from_the_sources_are_noticed(monkeypatch, offer):
    monkeypatch.setattr(transfer_ways.Copy, "read", lambda self, local, remote: None)
    with pytest.raises(Wrong, match="copy in memory: the bytes differ"):
        transfer_ways.measure(PLAN, offer)


def test_what_bare_nixl_cannot_do_is_blocked(monkeypatch, offer):
    def read(self, local, remote):
        raise transfer_ways.AgentError("NIXL cannot post a read")

    monkeypatch.setattr(transfer_ways.Bare, "read", read)
    with pytest.raises(Blocked, match="NIXL cannot post a read"):
        transfer_ways.measure(PLAN, offer)


def test_what_only_our_thread_cannot_do_is_a_failure(monkeypatch, offer):
    def read(self, local, remote):
        raise RuntimeError("the read did not succeed")

    monkeypatch.setattr(transfer_ways.Ours, "read", read)
    with pytest.raises(RuntimeError, match="did not succeed"):
        transfer_ways.measure(PLAN, offer)


def test_without_the_gpu_it_is_asked_for_it_is_not_run(capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert kv_transfer.main(["--device", "cuda:0"]) == 0
    assert capsys.readouterr().out == "kv transfer: not run: torch sees no CUDA device here\n"


def test_without_nixl_it_is_not_run(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nixl" else name)
    assert kv_transfer.main(["--device", "cuda:0"]) == 0
    assert capsys.readouterr().out == "kv transfer: not run: nixl not installed\n"


@pytest.mark.usefixtures("doubles")
def test_on_a_gpu_its_rates_are_written_beside_what_it_reads(tmp_path):
    status, rows = check("cuda", tmp_path)
    assert status == 0
    assert [(row["way"], row["verdict"], row["times_bare"], row["percent_of_reads"]) for row in rows] == [
        ("transfer thread", "right", "0.90", "9"),
        ("bare NIXL", "right", "1.00", "10"),
        ("copy in memory", "right", "4.00", "40"),
    ]
    table = (tmp_path / "some-gpu/nixl.md").read_text()
    assert "- device: Some GPU" in table
    assert "- reads: 1,000 GB/s" in table


@pytest.mark.usefixtures("doubles")
def test_without_triton_only_what_the_gpu_reads_is_not_measured(tmp_path):
    status, rows = check("cuda, no triton", tmp_path)
    assert (status, {row["percent_of_reads"] for row in rows}) == (0, {""})
    assert "- reads: not run: triton not installed" in (tmp_path / "some-gpu/nixl.md").read_text()


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        ("no registration", "AgentError('NIXL cannot register memory')"),
        ("the source dies", "the source ended by SIGKILL"),
        ("the source dies while it is read", "the source ended by SIGKILL"),
    ],
)
def test_on_a_gpu_what_is_blocked_is_said_at_once_to_be_not_run(tmp_path, capsys, fate, reason):
    began = time.monotonic()
    status, rows = check(f"cuda, {fate}", tmp_path)
    assert time.monotonic() - began < 30
    assert status == 0
    assert [(row["verdict"], row["note"]) for row in rows] == [("not run", reason)]
    assert capsys.readouterr().out == f"kv transfer: not run: {reason}\n"


@pytest.mark.usefixtures("doubles")
def test_on_a_gpu_bytes_that_differ_fail_the_check(tmp_path):
    status, rows = check("cuda, other bytes", tmp_path)
    assert (status, [row["verdict"] for row in rows]) == (1, ["WRONG"])


@pytest.mark.usefixtures("doubles")
def test_on_a_gpu_a_defect_of_ours_is_no_reason_not_to_run(tmp_path):
    with pytest.raises(RuntimeError, match=r"the reader failed:(.|\n)*ValueError: a defect"):
        check("cuda, a defect", tmp_path)


@pytest.mark.usefixtures("doubles")
def test_a_gpu_whose_memory_cannot_be_read_into_that_of_the_host_fails_the_check_and_has_its_rates(tmp_path):
    status, rows = check("cuda, no way to the host", tmp_path)
    assert (status, [row["verdict"] for row in rows]) == (1, ["right"] * 3)
    assert (
        "- into host memory: failed: the read did not succeed" in (tmp_path / "some-gpu/nixl.md").read_text()
    )


def test_bytes_that_differ_in_memory_of_the_host_are_noticed(monkeypatch, offer):
    monkeypatch.setattr(transfer_ways.Ours, "read", lambda self, local, remote: None)
    with pytest.raises(Wrong, match="the bytes differ"):
        transfer_ways.read_into_host(PLAN, offer)


@pytest.mark.usefixtures("doubles")
def test_a_bound_that_is_not_held_fails(tmp_path):
    assert check("cuda", tmp_path, bound=0.95)[0] == 1
