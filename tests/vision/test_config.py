"""The settings of a vision worker."""

from __future__ import annotations

import pytest

from services.common.errors import ConfigError
from services.common.settings import resolve
from services.vision.config import VisionConfig


def test_the_defaults_make_sense():
    config = resolve(VisionConfig, {}, {})
    assert (config.port, config.metrics_port) == (50051, 9151)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("embedding_pages", "0"),
        ("max_waiting", "0"),
        ("threads", "-1"),
        ("lease_seconds", "0"),
        ("grace_seconds", "nan"),
        ("hold_seconds", "-1"),
        ("expected_transport", "pigeon"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(key, value):
    with pytest.raises(ConfigError, match=key):
        resolve(VisionConfig, {key: value}, {})
