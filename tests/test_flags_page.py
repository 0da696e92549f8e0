"""docs/flags.md names settings that exist, for the services that have them."""

from __future__ import annotations

import re

import pytest

from services.cli.main import build_parser


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "flags.md").read_text()


@pytest.fixture(scope="module")
def rows(page):
    """The cells of all rows."""
    lines = [line for line in page.splitlines() if line.startswith("| ") and " here " not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def flags_of(command: str) -> set[str]:
    return set(build_parser([command]).reached([command]).flags())


def test_every_setting_it_names_belongs_to_the_service_it_names(page):
    named = set(re.findall(r"`perigee (\w+) (--[a-z-]+)`", page))
    assert len(named) > 30
    assert not {(command, flag) for command, flag in named if flag not in flags_of(command)}


def test_a_row_says_what_to_do_here(rows):
    assert len(rows) > 45
    for sglang, vllm, here, differs in rows:
        assert sglang or vllm or here, "a row about nothing"
        assert here or differs, f"{sglang or vllm} has no answer"


def test_perigee_serve_takes_the_marked_flags_and_no_others_of_sglang(rows):
    taken = flags_of("serve")
    marked = {cell.rstrip("*") for cell, *_ in rows if cell.endswith("*")}
    assert marked <= taken
    assert {"--model-path", "--tp-size", "--port", "--chat-template"} <= marked
    unmarked = {cell for cell, *_ in rows if cell and not cell.endswith("*")}
    assert not unmarked & taken - {"--config"}
