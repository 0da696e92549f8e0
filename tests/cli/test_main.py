from __future__ import annotations

import subprocess
import sys

import pytest

from services.cli import version_command
from services.cli.main import main


def test_version_names_perigee_and_what_it_stands_on(capsys):
    assert main(["version"]) == 0
    lines = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines.keys() >= {"perigee", "python", "grpcio", "torch", "nixl"}


def test_version_works_where_torch_is_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(version_command, "_SHOWN", ("surely-not-installed",))
    assert main(["version"]) == 0
    assert "surely-not-installed not installed" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "chat", "vision", "prefill", "decode", "gateway", "version"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "usage: perigee " + command in capsys.readouterr().out


def test_a_bad_setting_ends_the_command_with_its_name(capsys):
    assert main(["run", "--http-port", "many"]) == 2
    assert (
        capsys.readouterr().err == "perigee run: http_port: 'many' is not a whole number (from --http-port)\n"
    )


def test_an_unknown_variable_ends_the_command_with_its_name(monkeypatch, capsys):
    monkeypatch.setenv("PERIGEE_HTTP_PROT", "1")
    assert main(["run"]) == 2
    assert "did you mean PERIGEE_HTTP_PORT?" in capsys.readouterr().err


def test_the_command_starts_without_loading_torch():
    program = "import sys, services.cli.main as m; m.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
