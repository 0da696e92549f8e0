"""Kernels compiled without a GPU are found where there is one, and no C compiler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.machine_code import cases, table
from kernels.prebuilt.driver_stub import build_stub
from services.engine.kernel_model.attention import heads_at_a_time

HERE = Path(__file__).parent
HOPPER = "90"
FILLED = "SwiGLU"
"""Cases of the kernels that are compiled ahead here: the cheapest ones."""


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory):
    """A directory with the package and kernels compiled ahead, moved after they were compiled."""
    scratch = tmp_path_factory.mktemp("prebuilt")
    ignored = shutil.ignore_patterns("__pycache__", "benchmarks", "cache")
    shutil.copytree(repository / "kernels", scratch / "built" / "kernels", ignore=ignored)
    command = [sys.executable, "-m", "kernels.prebuilt", "--capability", HOPPER, "--case", FILLED]
    # Another test of this process may have chosen triton's interpreter, which compiles nothing.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run(command, cwd=scratch / "built", env=environment, check=True, timeout=120)
    (scratch / "built").rename(scratch / "moved")
    return scratch / "moved"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A directory with a double of NVIDIA's driver."""
    directory = tmp_path_factory.mktemp("driver")
    build_stub(directory, HERE / "driver_double.c")
    return directory


@pytest.fixture
def launch(installed, driver, tmp_path):
    """Launches the cases that have a word in their names, in a process of its own that finds no compiler and
    cannot write to its home; returns what was done.
    """

    def launch(word):
        environment = {
            "HOME": "/proc/nobody",
            "LD_LIBRARY_PATH": str(driver),
            "PATH": "",
            "PYTHONPATH": str(installed),
            "TMPDIR": str(tmp_path),
        }
        command = [sys.executable, str(HERE / "launch_all.py"), HOPPER, word]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return launch


def test_a_kernel_compiled_ahead_is_launched_without_a_compiler_and_a_home_to_write_to(launch, tmp_path):
    found = launch(FILLED)
    assert found["compiler"] is None
    assert not found["home_can_be_written"]
    assert found["cache"] == str(tmp_path / f"perigee-triton-{os.getuid()}")
    assert found["compiled"] == []
    assert found["loaded"] == 1
    assert found["launched"] == found["cases"] == 2


def test_a_kernel_that_was_not_compiled_ahead_is_compiled_where_it_can_be_written_and_logged(
    launch, installed, tmp_path
):
    ahead = set((installed / "kernels" / "prebuilt" / "cache").iterdir())
    found = launch("norm of query rows")
    assert found["compiled"] == ["rms_norm_kernel"]
    assert found["loaded"] == found["launched"] == 1
    assert len(list(tmp_path.glob("perigee-triton-*/*/rms_norm_kernel.cubin"))) == 1
    assert set((installed / "kernels" / "prebuilt" / "cache").iterdir()) == ahead


@pytest.mark.parametrize("rows", [1, 2, 17, 512])
def test_no_size_of_a_batch_needs_a_kernel_that_is_not_compiled_ahead(monkeypatch, rows):
    ahead = set(table.launches(90).values())
    monkeypatch.setattr(cases, "_ROWS", rows)
    monkeypatch.setattr(cases, "_TABLE", rows)
    monkeypatch.setattr(cases, "_CONTEXT", 64 * rows)
    monkeypatch.setattr(cases, "_PAIRS", (rows, rows + 1, rows + 63))
    assert {launch.name for launch in set(table.launches(90).values()) - ahead} == set()


@pytest.mark.parametrize("heads", [8, 64])
def test_no_length_of_a_context_needs_a_kernel_that_is_not_compiled_ahead(heads):
    width = cases.NOPE + cases.VALUE
    ahead = {
        dict(launch.constants)["heads"]
        for launch in table.launches(90).values()
        if launch.name == "prefill_kernel"
    }
    contexts = range(cases.PAGE_TOKENS, 262144 + 1, cases.PAGE_TOKENS)
    assert {min(heads, heads_at_a_time(context, width)) for context in contexts} <= ahead
