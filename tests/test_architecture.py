"""What docs/architecture.md names is in the repository."""

from __future__ import annotations

import re

import pytest

from services.cli.roles import ROLES, config_class
from services.cli.run_config import RunConfig
from services.common.settings import flag_name
from services.engine.model.config.model_config import ModelConfig

SOURCES = ("services/**/*.py", "kernels/**/*.py", "protos/perigee/v1/*.proto", "tests/support/*.py")
FILE_OR_DIRECTORY = re.compile(r"[\w.-]+/[\w./-]*")
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# What other programs define.
FOREIGN = {"perigee.v1", "grpc.health.v1"}


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "architecture.md").read_text()


@pytest.fixture(scope="module")
def quoted(page):
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL)))


@pytest.fixture(scope="module")
def source(repository):
    return "\n".join(path.read_text() for pattern in SOURCES for path in repository.glob(pattern))


def test_the_files_it_names_exist(quoted, repository):
    paths = {text for text in quoted if FILE_OR_DIRECTORY.fullmatch(text)}
    assert len(paths) > 50
    missing = {
        path for path in paths if not any((repository / at / path).exists() for at in ("services", ""))
    }
    assert not missing


def test_the_names_it_gives_occur_in_the_code(quoted, source):
    words = set(re.findall(r"\w+", source))
    given = {text for text in quoted if NAME.fullmatch(text)} - FOREIGN
    given = {name for name in given if not name.endswith((".py", ".proto", ".md", ".json"))}
    metrics = {name for name in given if name.startswith("perigee_")}
    unknown = {name for name in given - metrics if not words.issuperset(name.split("."))}
    unknown |= {name for name in metrics if not {name, name.removesuffix("_total")} & words}
    assert len(given) > 100
    assert not unknown


def test_a_name_that_follows_a_file_is_in_that_file(page, repository):
    pairs = re.findall(r"`([\w/]+\.py)`\s+`([\w.]+)`", page)
    assert len(pairs) > 40
    wrong = []
    for path, name in pairs:
        file = next(at / path for at in (repository / "services", repository) if (at / path).exists())
        words = set(re.findall(r"\w+", file.read_text()))
        if not words.issuperset(name.split(".")):
            wrong.append((path, name))
    assert not wrong


def test_the_flags_it_names_exist(quoted):
    classes = (RunConfig, *(config_class(role) for role in ROLES))
    known = {flag_name(key) for cls in classes for key in cls.__dataclass_fields__} | {"--config"}
    flags = {match for text in quoted for match in re.findall(r"(?<![\w-])--[a-z-]+", text)}
    assert {flag.replace("--no-", "--") for flag in flags} <= known


def test_the_pools_it_describes_are_the_defaults(page, repository):
    text = ModelConfig.from_dir(repository / "models" / "kimi-nano").text
    page_bytes = text.num_hidden_layers * 64 * text.kv_width * 4
    prefill, decode = (config_class(role)().kv_pages for role in ("prefill", "decode"))
    sizes = [f"{pages:,} pages ({pages * page_bytes / 1e6:.0f} MB" for pages in (prefill, decode)]
    assert f"prefill has {sizes[0]} with kimi-nano) and decode {sizes[1].replace(' pages', '')})" in page


def test_the_ports_it_names_are_the_defaults(page):
    gateway = config_class("gateway")()
    assert f"| gateway | {gateway.grpc_port} | {gateway.http_port}:" in page
    assert f"| gateway, for operators | {gateway.operator_port} |" in page
    for role in ("vision", "prefill", "decode"):
        config = config_class(role)()
        assert f"| {role} | {config.port} | {config.metrics_port}:" in page
