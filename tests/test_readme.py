"""What the README shows is what the repository does."""

from __future__ import annotations

import re
import subprocess

import pytest

from services.cli.roles import config_class
from services.cli.run_config import RunConfig
from services.common.settings import flag_name

COMMAND_FLAGS = {
    "--dry-run",
    "--temperature",
    "--tp",
    "--gpu-memory",
}  # of perigee chat and perigee checkpoint


@pytest.fixture(scope="module")
def readme(repository):
    return (repository / "README.md").read_text()


def test_the_grpc_client_fits_in_ten_lines_of_code(repository):
    lines = (repository / "examples" / "grpc_chat.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 10


def test_the_ports_it_names_are_the_defaults(readme):
    run, vision = RunConfig(), config_class("vision")()
    row = re.search(r"\| gateway \| (\d+) \| (\d+)", readme)
    assert [int(port) for port in row.groups()] == [run.grpc_port, run.http_port]
    assert f"| gateway, for operators | {run.operator_port} |" in readme
    for offset, role in enumerate(("vision", "prefill", "decode")):
        config = config_class(role)()
        row = re.search(rf"\| {role} \| (\d+) \| (\d+)", readme)
        assert [int(port) for port in row.groups()] == [config.port, config.metrics_port]
        assert config.port == run.port_base + offset
        assert config.metrics_port == run.metrics_port_base + offset
    assert vision.port == run.port_base


def test_the_flags_it_names_exist(readme):
    known = {
        flag_name(key)
        for cls in (RunConfig, *(config_class(role) for role in ("vision", "prefill", "decode", "gateway")))
        for key in cls.__dataclass_fields__
    } | COMMAND_FLAGS
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", readme)) <= known


def test_the_make_targets_it_shows_exist(readme, repository):
    targets = set(re.findall(r"^(?:.*`)?make ([a-z-]+)", readme, re.MULTILINE))
    assert targets >= {"run", "test", "up", "down"}
    for target in targets:
        done = subprocess.run(["make", "--dry-run", target], cwd=repository, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_files_it_links_to_exist(readme, repository):
    for name in re.findall(r"\]\(([^)]+)\)", readme):
        assert (repository / name.partition("#")[0]).is_file(), name
