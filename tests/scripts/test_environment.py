"""Setting up, with a pip that only writes lines."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import tomllib

import pytest

from scripts.environment import __main__ as setup
from scripts.environment import disk, torch_build
from scripts.environment.commands import CommandFailed, QuietCommands
from scripts.environment.narrator import Narrator
from tests.support.manual_clock import ManualClock

PIP = """#!/bin/sh
echo "$@" >>asked
case " $* " in
*+cpu*"--editable"*|*" install "*) echo "Installing collected packages: a, b"; exit ${INSTALL_STATUS:-0} ;;
*) echo "${DOWNLOAD_SAYS:-Saved ./torch.whl}"; exit ${DOWNLOAD_STATUS:-0} ;;
esac
"""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A directory with a .venv whose Python notes what pip is asked; no NVIDIA device, no choice of torch."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PIP)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (python.parent / "pip").touch()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(f"version = {platform.python_version()}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCH", raising=False)
    monkeypatch.setattr(setup, "NVIDIA", tmp_path / "nvidiactl")
    monkeypatch.setattr(setup, "taken_ports", lambda words, env: [])
    return tmp_path


def asked(clone):
    file = clone / "asked"
    return file.read_text().splitlines() if file.exists() else []


def test_running_needs_fewer_packages_than_developing(clone, repository):
    assert setup.main(["run"]) == setup.main(["dev"]) == 0
    run, dev = [line for line in asked(clone) if " install " in line]
    assert run.endswith(".[certs,examples,gateway,otel,video,worker-cpu]")
    assert dev.endswith(".[dev,gateway,video,worker]")
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*extras["certs"], *extras["examples"]} <= set(extras["dev"])
    nixl = {name: {line for line in extras[name] if "nixl" in line} for name in ("worker", "worker-cpu")}
    assert set(extras["worker"]) - nixl["worker"] == set(extras["worker-cpu"]) - nixl["worker-cpu"]
    assert nixl == {"worker": {"nixl==1.5.1"}, "worker-cpu": {"nixl-cu13==1.5.1"}}


def test_the_cpu_build_is_installed_where_there_is_no_nvidia_device(clone):
    setup.main(["run"])
    assert [" torch==2.13.0+cpu" in line for line in asked(clone)] == [True, True]


def test_the_default_build_is_installed_where_there_is_one(clone):
    (clone / "nvidiactl").touch()
    setup.main(["run"])
    (line,) = asked(clone)
    assert " torch==2.13.0 " in line
    assert line.endswith(",worker]")


def test_a_build_that_is_there_is_not_looked_for_again(clone):
    (clone / ".venv" / "lib" / "python3" / "site-packages" / "torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    setup.main(["run"])
    (line,) = asked(clone)
    assert " torch==2.13.0+cpu " in line


def test_torch_names_the_build(clone, monkeypatch):
    monkeypatch.setenv("TORCH", "torch==2.13.0+mine")
    setup.main(["run"])
    (line,) = asked(clone)
    assert " torch==2.13.0+mine " in line


@pytest.mark.parametrize(
    "words",
    [
        "ERROR: No matching distribution found for torch==2.13.0+cpu",
        "ERROR: Cannot install torch because these package versions have conflicting dependencies.",
    ],
)
def test_where_only_the_cuda_build_is_in_sight_nothing_is_downloaded_and_one_line_says_what_to_set(
    clone, monkeypatch, capsys, words
):
    monkeypatch.setenv("DOWNLOAD_SAYS", words)
    monkeypatch.setenv("DOWNLOAD_STATUS", "1")
    assert setup.main(["run"]) == 1
    assert not [line for line in asked(clone) if " install " in line]
    assert "\n  export PIP_EXTRA_INDEX_URL=ADDRESS\n" in capsys.readouterr().err


def test_developers_get_the_default_build_after_a_warning(clone, monkeypatch, capsys):
    monkeypatch.setenv("DOWNLOAD_SAYS", "ERROR: No matching distribution found for torch==2.13.0+cpu")
    monkeypatch.setenv("DOWNLOAD_STATUS", "1")
    assert setup.main(["dev"]) == 0
    assert " torch==2.13.0 " in asked(clone)[-1]
    assert "PIP_EXTRA_INDEX_URL" in capsys.readouterr().err


def test_a_network_that_fails_is_not_mistaken_for_a_missing_build(clone, monkeypatch, capsys):
    monkeypatch.setenv("DOWNLOAD_SAYS", "ERROR: Connection refused")
    monkeypatch.setenv("DOWNLOAD_STATUS", "1")
    assert setup.main(["dev"]) == 1
    shown = capsys.readouterr().err
    assert "Connection refused" in shown
    assert "PIP_EXTRA_INDEX_URL" not in shown
    assert "All of its output is in .venv/setup.log" in shown


def test_taken_ports_stop_it_before_pip_is_asked(clone, monkeypatch, capsys):
    monkeypatch.setattr(setup, "taken_ports", lambda words, env: [f"port 30000 is in use {words}"])
    assert setup.main(["run", "--tp", "2"]) == 2
    assert asked(clone) == []
    assert "Nothing was installed:\n  port 30000 is in use ['--tp', '2']" in capsys.readouterr().err
    assert setup.main(["dev"]) == 0, "tests choose free ports"


def test_a_full_disk_stops_it_before_pip_is_asked(clone, monkeypatch, capsys):
    shutil.rmtree(clone / ".venv")
    monkeypatch.setattr(
        disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9 * 10**9, 8 * 10**9, 10**9)
    )
    assert setup.main(["run"]) == 2
    assert not (clone / ".venv").exists()
    assert "1,000 MB free, and 2,230 MB are needed" in capsys.readouterr().err


def test_an_environment_of_another_python_is_not_mixed_with_this_one(clone, capsys):
    (clone / ".venv" / "pyvenv.cfg").write_text("home = /x\nversion = 3.9.1\n")
    assert setup.main(["run"]) == 2
    assert ".venv was made with Python 3.9.1" in capsys.readouterr().err


def test_another_system_than_linux_is_refused_before_anything_is_made(clone, monkeypatch, capsys):
    shutil.rmtree(clone / ".venv")
    monkeypatch.setattr(setup.platform, "system", lambda: "Darwin")
    assert setup.main(["run"]) == 2
    assert not (clone / ".venv").exists()
    assert "Perigee needs Linux, and this is Darwin" in capsys.readouterr().err


@pytest.mark.parametrize(("newest", "warned"), [((3, 10), True), (sys.version_info[:2], False)])
def test_a_python_that_is_too_new_to_have_been_tried_is_said(clone, monkeypatch, capsys, newest, warned):
    monkeypatch.setattr(setup, "NEWEST_TRIED", newest)
    assert setup.main(["run"]) == 0
    assert ("never tried with such a new one" in capsys.readouterr().out) is warned


def test_the_newest_python_tried_is_the_newest_that_is_declared(repository):
    declared = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["classifiers"]
    assert declared[-1].endswith(f" {'.'.join(map(str, setup.NEWEST_TRIED))}")


def test_a_failure_shows_the_end_of_what_the_command_wrote(tmp_path):
    commands = QuietCommands(Narrator(lambda line: None, ManualClock(), lambda: 0), tmp_path / "log")
    program = "for n in range(99): print('line', n)\nraise SystemExit(3)"
    with pytest.raises(CommandFailed, match="ended with status 3:\n\nline 84\n"):
        commands.run(sys.executable, "-c", program)
    assert (tmp_path / "log").read_text().startswith("line 0\nline 1\n")


def test_the_version_of_torch_is_the_pinned_one(repository):
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"torch=={torch_build.VERSION}" in extras["worker"]


def test_the_script_runs_with_the_standard_library_alone(repository):
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(repository)!r}); import scripts.environment.__main__",
    ]
    assert os.spawnv(os.P_WAIT, sys.executable, command) == 0
