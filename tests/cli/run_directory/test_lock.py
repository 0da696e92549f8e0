from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.cli.run_directory.lock import held, holder
from services.common.errors import ConfigError

HOLDER = """
import signal, sys
from pathlib import Path
from services.cli.run_directory.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def test_a_directory_that_somebody_has_is_refused_with_their_process(tmp_path):
    with held(tmp_path / "run"):
        for _ in range(2):
            with (
                pytest.raises(ConfigError, match=f"run_dir: .*process {os.getpid()}.*--run-dir"),
                held(tmp_path / "run"),
            ):
                pass
    with held(tmp_path / "run"):
        pass


def test_a_process_that_was_killed_has_it_no_longer(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid}"), held(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with held(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_place_that_cannot_be_a_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"run_dir: .*file/run cannot be used: Not a directory"),
        held(tmp_path / "file" / "run"),
    ):
        pass


def test_who_has_a_directory_is_known_without_taking_it(tmp_path):
    assert holder(tmp_path / "absent") is None
    with held(tmp_path):
        assert holder(tmp_path) == holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None
    with held(tmp_path):
        pass
