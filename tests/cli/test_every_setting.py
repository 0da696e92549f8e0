"""What every setting of every role has in common."""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

import pytest

from services.cli.roles import ROLES, config_class
from services.cli.run_config import RunConfig
from services.common.errors import ConfigError
from services.common.setting_ranges import AutoCount, AutoSeconds

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


@pytest.mark.parametrize("cls", CLASSES)
def test_every_default_passes(cls):
    cls()
