from __future__ import annotations

import importlib.metadata
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
    monkeypatch.setattr(version_command, "_SHOWN", (("surely-not-installed", "nor-this"),))
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


def ended(capsys, *words):
    """Exit status and output of a command line that argparse itself ends."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    out, err = capsys.readouterr()
    return caught.value.code, out + err


def test_a_word_that_is_no_command_is_refused_with_the_nearest_or_with_all_there_are(capsys):
    status, error = ended(capsys, "helth")
    assert (status, "did you mean health?" in error) == (2, True)
    _, error = ended(capsys, "xyzzy")
    assert all(command in error for command in ("run", "workers", "version"))


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("run --htp-port 1", "did you mean --http-port?"),
        ("run --kv-pages 5", "did you mean --prefill.kv-pages or --decode.kv-pages?"),
        ("run --decode.kv-page=5", "did you mean --decode.kv-pages?"),
        ("decode --kvpages 5", "did you mean --kv-pages?"),
        ("workers --jsn", "did you mean --json?"),
        ("workers more", "unexpected 'more'"),
        ("keys create me --scop chat", "did you mean --scope?; see `perigee keys create --help`"),
    ],
)
def test_a_flag_that_is_none_is_refused_with_what_would_be_right(words, right, capsys):
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert right in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("flag", ["--crew", "--die-with", "--handover", "--hold-ms"])
@pytest.mark.parametrize("command", ["gateway", "vision"])
def test_what_processes_tell_each_other_is_in_no_help(command, flag, capsys):
    status, text = ended(capsys, command, "--help")
    assert (status, flag in text) == (0, False)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("decode --kv-pages -1", "kv_pages: must be 1 to 2,147,483,647, is -1 (from --kv-pages)"),
        ("run --decode.threads 0", "threads: must be 1 to 1,024, is 0 (from --decode.threads)"),
        ("run --tp 9999999999", "tp: must be 1 to 1,024, is 9,999,999,999 (from --tp)"),
        ("gateway --grace-seconds nan", "grace_seconds: must be 0 to 604800 seconds, is nan"),
        ("checkpoint verify x --tp 2 --gpu-memory nan", "--gpu-memory: must be 0.001 to 10,000, is nan"),
        ("checkpoint verify x --tp 0 --gpu-memory 8", "--tp: must be 1 to 1,024, is 0"),
        ("transfer-check a b --rounds -5", "--rounds must be from 1 to"),
        ("drain a --wait-seconds inf", "--wait-seconds must be from 0 to"),
    ],
)
def test_a_number_out_of_range_is_one_sentence_with_what_would_be_right(words, sentence, capsys):
    assert main(words.split()) == 2
    assert sentence in (error := capsys.readouterr().err)
    assert "Traceback" not in error


def test_a_word_in_place_of_a_number_is_one_sentence(capsys):
    status, error = ended(capsys, "drain", "worker", "--wait-seconds", "long")
    assert status == 2
    assert error == (
        "perigee drain: argument --wait-seconds: 'long' is not a number; see `perigee drain --help`\n"
    )


def test_without_a_command_there_is_help(capsys):
    status, text = ended(capsys)
    assert (status, "usage: perigee" in text) == (0, True)


def test_the_version_is_a_flag_too(capsys):
    assert ended(capsys, "--version") == (0, f"perigee {importlib.metadata.version('perigee')}\n")
