"""What every setting of every role has in common."""

from __future__ import annotations

import dataclasses
import re
from typing import get_type_hints

import pytest

from services.cli.command_table import COMMANDS
from services.cli.completion.words import commands_of
from services.cli.main import build_parser
from services.cli.roles import ROLES, config_class
from services.cli.run_config import RunConfig
from services.common.errors import ConfigError
from services.common.setting_ranges import AutoCount, AutoSeconds
from services.common.settings import env_name

CLASSES = [RunConfig, *map(config_class, ROLES)]


def settings_of(*kinds):
    return [
        pytest.param(cls, field.name, id=f"{cls.__name__}.{field.name}")
        for cls in CLASSES
        for field in dataclasses.fields(cls)
        if get_type_hints(cls)[field.name] in kinds
    ]


NUMBERS = settings_of(float, AutoSeconds)
COUNTS = settings_of(int, int | None, AutoCount)


def test_there_are_numbers_to_check():
    assert len(NUMBERS) >= 16
    assert len(COUNTS) >= 40


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0, 1e300])
@pytest.mark.parametrize(("cls", "key"), NUMBERS)
def test_a_number_that_no_clock_can_follow_is_refused_by_name(cls, key, value):
    with pytest.raises(ConfigError, match=f"^{key}: must be "):
        cls(**{key: value})


@pytest.mark.parametrize(("cls", "key"), COUNTS)
def test_less_than_nothing_of_something_is_refused_by_name(cls, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        cls(**{key: -1})


@pytest.mark.parametrize(("cls", "key"), COUNTS)
def test_more_than_any_machine_has_of_something_is_refused_by_name(cls, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        cls(**{key: 10**15})


def test_every_duration_is_called_seconds_and_is_in_seconds():
    short = re.compile(r"_(s|ms|secs|minutes|min|hours|timeout|grace)$")
    assert not [key for cls in CLASSES for key in cls.__dataclass_fields__ if short.search(key)]
    durations = {key for cls in CLASSES for key in cls.__dataclass_fields__ if key.endswith("_seconds")}
    assert len(durations) > 15


def test_every_flag_that_takes_a_duration_says_its_unit():
    short = re.compile(r"-(s|ms|secs|minutes|min|hours|timeout|wait|grace|interval)$")
    flags = {
        name
        for command in commands_of(build_parser(COMMANDS))
        for flag in command.flags
        for name in flag.names
    }
    assert not [name for name in flags if short.search(name)]
    assert {"--wait-seconds", "--timeout-seconds"} < flags


def test_a_variable_of_a_role_means_no_setting_of_all():
    """PERIGEE_PREFILL_POOL would be ambiguous if prefill had a setting called pool."""
    common = {env_name(key) for cls in CLASSES for key in cls.__dataclass_fields__}
    own = {env_name(key, role) for role in ROLES for key in config_class(role).__dataclass_fields__}
    assert not common & own


@pytest.mark.parametrize("cls", CLASSES)
def test_every_default_passes(cls):
    cls()
