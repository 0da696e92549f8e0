"""What the completion scripts offer, in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from services.cli.main import main

BASH = """
source "$SCRIPT"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_perigee
printf '%s\\n' "${COMPREPLY[@]}"
"""
# Outside the line editor there is nothing that takes the candidates: these print them.
ZSH = """
compdef() {}
_files() { print -l FILES }
compadd() { if [[ $1 == -a ]]; then print -l -- ${(P)2}; else print -l -- ${@[2,-1]}; fi }
_describe() { print -l -- ${(P)2} }
source "$SCRIPT"
words=("$@"); CURRENT=$#
_perigee
"""
FISH = 'source "$SCRIPT"; complete -C (string join " " -- $argv)'
RUN = {
    "bash": ["bash", "--norc", "-c", BASH, "bash"],
    "zsh": ["zsh", "-f", "-c", ZSH, "zsh"],
    "fish": ["fish", "--no-config", "-c", FISH],
}


@pytest.fixture(scope="module", params=list(RUN))
def offered(request, tmp_path_factory):
    """What a shell offers after these words, of which the last is not finished."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path_factory.mktemp("completion") / shell
    with script.open("w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        assert main(["completion", shell]) == 0

    def offer(*words):
        done = subprocess.run(
            [*RUN[shell], "perigee", *words],
            capture_output=True, text=True, check=True, env={"SCRIPT": str(script), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert not done.stderr
        found = {line.partition("\t")[0].partition(":")[0] for line in done.stdout.splitlines()}
        return {word for word in found if word.startswith(words[-1])}

    return offer


def test_a_command(offered):
    assert offered("he") == {"health"}
    assert offered("") >= {"run", "chat", "workers", "completion"}


def test_a_command_below_another(offered):
    assert offered("keys", "") >= {"create", "list", "revoke"}
    assert "--scope" in offered("keys", "create", "--s")


def test_a_flag_of_the_command(offered):
    assert offered("run", "--htt") == {"--http-port"}
    assert offered("workers", "--js") == {"--json"}
    assert not offered("version", "--js")


def test_a_setting_of_one_service_once_its_name_is_begun(offered):
    assert offered("run", "--decode.kv") == {"--decode.kv-pages", "--decode.kv-format"}


def test_the_values_of_a_flag_that_has_certain_ones(offered):
    assert offered("health", "--role", "") == {"vision", "prefill", "decode", "gateway"}


def test_a_flag_s_value_after_another_flag(offered):
    assert offered("run", "--tp", "2", "--htt") == {"--http-port"}


def test_what_is_internal_is_not_offered(offered):
    assert not offered("gateway", "--crew")
    assert not offered("decode", "--die")
