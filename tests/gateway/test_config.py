"""Settings of the gateway."""

import pytest

from services.common.errors import ConfigError
from services.gateway.config import GatewayConfig


def test_served_names_are_split_at_commas():
    assert GatewayConfig(served_model_name="kimi, moon,").served_names == ("kimi", "moon")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("decode", ""),
        ("decode", "nohost"),
        ("prefill", "a:0"),
        ("vision", ":5"),
        ("http_port", 70000),
        ("max_concurrent_requests", 0),
        ("request_timeout_seconds", 0.0),
        ("grace_seconds", -1.0),
        ("discovery_seconds", 0.0),
        ("first_token_timeout_seconds", 0.0),
        ("token_timeout_seconds", -1.0),
        ("worker_wait_seconds", -1.0),
        ("max_failovers", -1),
    ],
)
def test_a_bad_setting_is_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=setting):
        GatewayConfig(**{setting: value})
