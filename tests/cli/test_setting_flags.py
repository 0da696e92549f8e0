from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import pytest

from services.cli.setting_flags import add_flags, add_role_flags, flags_of
from services.common.settings import FORMERLY, INTERNAL, resolve


@dataclass(frozen=True)
class Example:
    model: str = field(default="nano", metadata={"help": "checkpoint directory, 100% local"})
    hold_seconds: float = field(default=1.5, metadata={FORMERLY: {"hold_ms": 0.001}})
    deterministic: bool = True
    crew: str = field(default="", metadata={INTERNAL: True, "help": "set by another process"})


def given(*words):
    parser = argparse.ArgumentParser()
    add_flags(parser, Example)
    return flags_of(parser.parse_args(words), Example)


def given_of(role, *words):
    parser = argparse.ArgumentParser()
    add_role_flags(parser, "decode", Example)
    return flags_of(parser.parse_args(words), Example, role)


def test_flags_on_the_command_line_arrive_and_absent_ones_stay_absent():
    flags = given("--hold-seconds", "9", "--no-deterministic")
    assert flags == {"hold_seconds": "9", "deterministic": False}
    assert resolve(Example, flags, {}) == Example(hold_seconds=9.0, deterministic=False)


def test_a_former_flag_is_taken_and_not_shown():
    assert resolve(Example, given("--hold-ms", "2000"), {}).hold_seconds == 2.0


def test_help_shows_purpose_and_default_of_each_flag_that_is_for_people():
    parser = argparse.ArgumentParser()
    add_flags(parser, Example)
    text = " ".join(parser.format_help().split())
    assert "checkpoint directory, 100% local (default: nano)" in text
    assert "--hold-ms" not in text
    assert "--crew" not in text
    assert given("--crew", "x") == {"crew": "x"}


def test_flags_of_a_role_arrive_by_the_names_of_its_settings():
    words = ("--decode.hold-seconds", "9", "--decode.no-deterministic")
    assert given_of("decode", *words) == {"hold_seconds": "9", "deterministic": False}
    assert given_of("decode", "--decode.deterministic") == {"deterministic": True}
    assert given_of("prefill", *words) == {}


def test_what_one_process_sets_for_another_is_no_flag_of_a_suite():
    with pytest.raises(SystemExit):
        given_of("decode", "--decode.crew", "x")
