"""Where compiled libraries lie, and what can compile them."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from services.engine.native import sources


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """A virtual environment, and a home."""
    (tmp_path / "venv" / "lib").mkdir(parents=True)
    monkeypatch.setattr(sources.sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(sources.sys, "base_prefix", str(tmp_path / "python"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_libraries_lie_in_the_virtual_environment_and_nothing_is_left_in_the_home(environment):
    made = sources.library_directory()
    assert made == environment / "venv" / "lib" / "perigee"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert not (environment / "cache").exists()


def test_without_a_virtual_environment_they_lie_in_the_user_s_cache(environment, monkeypatch):
    monkeypatch.setattr(sources.sys, "base_prefix", sources.sys.prefix)
    assert sources.library_directory() == environment / "cache" / "perigee"


def test_an_environment_that_another_user_installed_is_not_written_to(environment, monkeypatch):
    monkeypatch.setattr(sources.os, "access", lambda path, mode: False)
    assert sources.library_directory() == environment / "cache" / "perigee"


def test_a_directory_of_another_user_is_refused(environment, monkeypatch):
    monkeypatch.setattr(sources.os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        sources.library_directory()


def test_the_command_line_can_ask_for_a_compiler_without_loading_torch():
    program = "import sys; import services.engine.native.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
