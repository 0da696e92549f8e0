from __future__ import annotations

import subprocess
import sys

import pytest

from services.cli.commands import version as version_command
from services.cli.main import main

OPERATORS = ("workers", "transfer-check", "drain", "undrain", "flush", "health", "checkpoint")


def test_version_names_perigee_and_what_it_stands_on(capsys):
    assert main(["version"]) == 0
    lines = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines.keys() >= {"perigee", "python", "grpcio", "torch", "nixl"}


def test_version_works_where_torch_is_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(version_command, "_SHOWN", ("surely-not-installed",))
    assert main(["version"]) == 0
    assert "surely-not-installed not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", ["run", "chat", *OPERATORS, "vision", "prefill", "decode", "gateway", "version"]
)
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


def loaded_by(*words):
    """Top-level modules in a fresh interpreter after `perigee WORDS`."""
    program = (
        "import sys\nfrom services.cli.main import main\n"
        f"try: main({list(words)!r})\nexcept SystemExit: pass\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("command", [*OPERATORS, "chat", "run", "decode"])
def test_a_command_starts_without_what_only_a_service_needs(command):
    assert not loaded_by(command, "--help") & {"torch", "nixl", "numpy", "starlette", "uvicorn", "tiktoken"}


def test_a_checkpoint_is_verified_without_a_tensor_library(nano_dir):
    assert not loaded_by("checkpoint", "verify", str(nano_dir)) & {"torch", "numpy", "safetensors"}


def test_a_health_check_loads_little():
    assert not loaded_by("health", "--help") & {
        "structlog",
        "uvloop",
        "prometheus_client",
        "rich",
    }


def test_a_command_loads_no_other_command():
    assert "grpc" not in loaded_by("version")


def test_a_word_that_is_no_command_lists_those_there_are(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["helth"])
    assert caught.value.code == 2
    assert "health" in capsys.readouterr().err
