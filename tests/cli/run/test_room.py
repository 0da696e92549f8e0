"""Whether a second copy of a worker fits beside it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.cli.process_memory import peak_resident_bytes
from services.cli.run import room
from services.cli.run.room import available_bytes, why_no_room

MB = 1 << 20


def written(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def machine(tmp_path):
    """A root directory of a machine with 1,000 MB available."""
    return written(tmp_path, proc__meminfo="MemTotal: 9 kB\nMemAvailable: 1024000 kB\n")


def test_without_control_groups_the_machines_memory_counts(machine):
    assert available_bytes(machine) == 1000 * MB


def test_the_tightest_control_group_counts_and_cached_files_are_given_up(machine):
    written(
        machine,
        proc__self__cgroup="0::/suite/run\n",
        sys__fs__cgroup__suite__memory_DOT_max=f"{500 * MB}\n",
        sys__fs__cgroup__suite__memory_DOT_current=f"{300 * MB}\n",
        sys__fs__cgroup__suite__memory_DOT_stat=f"anon 5\ninactive_file {100 * MB}\n",
        sys__fs__cgroup__suite__run__memory_DOT_max="max\n",
    )
    assert available_bytes(machine) == 300 * MB


def test_the_group_that_a_container_sees_as_the_top_counts(machine):
    written(
        machine,
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__memory_DOT_max=f"{50 * MB}\n",
        sys__fs__cgroup__memory_DOT_current=f"{20 * MB}\n",
    )
    assert available_bytes(machine) == 30 * MB


def test_a_worker_has_room_if_as_much_is_available_as_it_and_its_children_ever_took(monkeypatch):
    program = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "1\n"
    monkeypatch.setattr(room, "available_bytes", lambda: 1000 * MB)
    assert why_no_room(process.pid, "cpu", os.environ) is None
    alone = peak_resident_bytes(process.pid)
    monkeypatch.setattr(room, "available_bytes", lambda: int(alone * 1.2))
    assert "MB are available" in why_no_room(process.pid, "cpu", os.environ)
    process.communicate("\n")
    assert why_no_room(process.pid, "cpu", os.environ) is None


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Sets what nvidia-smi prints; what it was asked is in the file `asked`."""

    def say(text, status=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\nprintf '{text}'\nexit {status}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(room, "available_bytes", lambda: 1 << 50)
    return say


def test_a_worker_on_a_gpu_has_room_if_no_more_is_in_use_than_free(gpus, tmp_path):
    gpus("400, 80000\\n500, 79900\\n")
    assert why_no_room(os.getpid(), "cuda:0", {}) is None
    assert "-i" not in (tmp_path / "asked").read_text()
    gpus("400, 80000\\n70000, 10400\\n")
    assert "70000 MB of a GPU are in use and 10400 MB free" in why_no_room(os.getpid(), "cuda:0", {})
    assert why_no_room(os.getpid(), "cpu", {}) is None


def test_the_gpus_that_the_worker_sees_are_asked_about(gpus, tmp_path):
    gpus("400, 80000\\n")
    assert why_no_room(os.getpid(), "cuda", {"CUDA_VISIBLE_DEVICES": "2,3"}) is None
    assert (tmp_path / "asked").read_text().split()[-2:] == ["-i", "2,3"]


@pytest.mark.parametrize(("text", "status"), [("", 9), ("[N/A], [N/A]\\n", 0)])
def test_a_gpu_about_which_nothing_is_known_has_no_room(gpus, text, status):
    gpus(text, status)
    assert "nvidia-smi does not say" in why_no_room(os.getpid(), "cuda:0", {})
