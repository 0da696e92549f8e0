"""What README.md, CONTRIBUTING.md, SECURITY.md and docs/ name exists, and the pictures are up to date."""

from __future__ import annotations

import re

import pytest
from opentelemetry.sdk import environment_variables

from docs.pictures.drawing import SOURCES, draw
from services.cli.roles import ROLES, config_class
from services.cli.run_config import RunConfig
from services.common.settings import flag_name
from services.engine.model.architectures import load_config

CODE = (
    "services/**/*.py", "kernels/**/*.py", "protos/perigee/v1/*.proto", "protos/perigee/client/*.py",
    "tests/support/*.py",
    "benchmarks/**/*.py", "training/**/*.py", "evals/**/*.py", "examples/*.py", "scripts/*", "Makefile",
    "*.toml", "*.yml", "monitoring/*.yml", "models/kimi-nano/*config.json", "services/*/Dockerfile",
    "deploy/helm/**/*.yaml", "deploy/helm/**/*.tpl",
)  # fmt: skip
FILE_OR_DIRECTORY = re.compile(r"\.?[\w-][\w.-]*/[\w./-]*")
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
ROOTS = ("services", "services/gateway", "", "docs")


@pytest.fixture(scope="module")
def pages(repository):
    """Text of every page, by its path."""
    roots = [repository / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    paths = [*roots, *(repository / "docs").glob("*.md")]
    return {str(path.relative_to(repository)): path.read_text() for path in paths}


@pytest.fixture(scope="module")
def quoted(pages):
    """(page, text) of all that stands in single backquotes."""
    return {
        (page, quote)
        for page, text in pages.items()
        for quote in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    }


@pytest.fixture(scope="module")
def code(repository):
    files = (path for pattern in CODE for path in repository.glob(pattern) if path.is_file())
    return "\n".join(path.read_text() for path in files)


@pytest.fixture(scope="module")
def words(code):
    return set(re.findall(r"\w+", code))


def test_the_files_they_name_exist(quoted, repository):
    paths = {(page, text) for page, text in quoted if FILE_OR_DIRECTORY.fullmatch(text)}
    # What setting up and running make is not there before.
    paths = {(page, path) for page, path in paths if not path.startswith((".venv/", ".run/"))}
    missing = {
        (page, path) for page, path in paths if not any((repository / root / path).exists() for root in ROOTS)
    }
    assert len(paths) > 70
    assert not missing


def test_the_names_they_give_occur_in_the_code(quoted, words):
    given = {(page, text) for page, text in quoted if NAME.fullmatch(text)}
    given = {(page, name) for page, name in given if not name.endswith((".py", ".proto", ".md", ".json"))}
    unknown = {
        (page, name)
        for page, name in given
        if not words.issuperset(name.split("."))
        and name.removesuffix("_total") not in words
        and name.removeprefix("PERIGEE_").lower() not in words
        and name not in vars(environment_variables)
    }
    assert len(given) > 200
    assert not unknown


def test_the_metrics_they_name_exist(quoted, words):
    named = {(page, name) for page, text in quoted for name in re.findall(r"perigee_[a-z_]+", text)}
    assert len(named) > 20
    assert not {(page, name) for page, name in named if not {name, name.removesuffix("_total")} & words}


def test_the_flags_of_the_roles_exist(pages):
    """Covers the commands that start roles, and flags that stand alone between backquotes."""
    classes = (RunConfig, *(config_class(role) for role in ROLES))
    known = {flag_name(key) for cls in classes for key in cls.__dataclass_fields__} | {"--config"}
    known |= {flag_name(key, role) for role in ROLES for key in config_class(role).__dataclass_fields__}
    known |= {flag_name("log_level", role) for role in ROLES}
    starts = re.compile(rf"perigee (?:run|{'|'.join(ROLES)})((?: [^`\n]*)?)")
    flags = {
        (page, flag.replace("--no-", "--"))
        for page, text in pages.items()
        for line in starts.findall(text)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z.-]+", line)
    }
    assert len(flags) > 5
    assert not {
        (page, flag) for page, flag in flags if flag not in known | {"--help", "--dry-run", "--log-level"}
    }


def test_every_flag_occurs_in_the_code(quoted, code, words):
    flags = {(page, flag) for page, quote in quoted for flag in re.findall(r"(?<![\w-])--[a-z-]+", quote)}
    assert len(flags) > 20
    assert not {
        (page, flag)
        for page, flag in flags
        if flag not in code and flag.removeprefix("--no").strip("-").replace("-", "_") not in words
    }


def test_links_lead_to_a_file_and_a_heading(pages, repository):
    broken = []
    for page, text in pages.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            path, _, heading = target.partition("#")
            if "://" in target:
                continue
            file = (repository / page).parent / path if path else repository / page
            if not file.exists() or (heading and heading not in _anchors(file.read_text())):
                broken.append((page, target))
    assert not broken


def test_readme_is_read_in_ten_minutes(pages):
    """An addition removes something else, or moves it to docs/."""
    assert len(pages["README.md"].split()) <= 1100
    assert len(pages["README.md"].splitlines()) <= 145


def test_every_helper_of_the_tests_is_explained(pages, repository):
    helpers = {path.name for path in (repository / "tests" / "support").glob("*.py")}
    explained = re.findall(r"`([a-z_]+\.py)`", pages["CONTRIBUTING.md"])
    assert len(helpers) > 20
    assert helpers <= set(explained)


def test_architecture_is_for_one_sitting(pages):
    page = pages["docs/architecture.md"]
    assert len(page.split()) <= 1500
    assert re.findall(r"^(\d+)\. ", page, flags=re.MULTILINE) == [str(step) for step in range(1, 25)]


def test_the_pools_they_describe_are_the_defaults(pages, repository):
    text = load_config(repository / "models" / "kimi-nano").text
    page_bytes = text.num_hidden_layers * 64 * text.kv_width * 4
    prefill, decode = (config_class(role)().cpu_pages for role in ("prefill", "decode"))
    sizes = [f"{count:,} pages ({count * page_bytes / 1e6:.0f} MB" for count in (prefill, decode)]
    described = f"prefill has {sizes[0]} with kimi-nano) and decode {sizes[1].replace(' pages', '')})"
    assert described in pages["docs/kv-transfer.md"]


def test_the_ports_they_name_are_the_defaults(pages):
    page = pages["docs/operations.md"]
    gateway = config_class("gateway")()
    assert f"| gateway | {gateway.grpc_port} | {gateway.http_port}:" in page
    assert f"| gateway, for operators | {gateway.operator_port} |" in page
    for role in ("vision", "prefill", "decode"):
        config = config_class(role)()
        assert f"| {role} | {config.port} | {config.metrics_port}:" in page


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_picture_is_what_its_source_gives(source):
    assert source.with_suffix(".svg").read_text() == draw(source), "run `make pictures`"


def _anchors(text: str) -> set[str]:
    """The anchors that a heading gets where the page is shown."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
