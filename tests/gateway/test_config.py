"""Settings of the gateway."""

import pytest

from services.common.errors import ConfigError
from services.gateway.config import GatewayConfig


def test_lists_are_split_at_commas():
    config = GatewayConfig(decode="a:1, b:2,", vision="", served_model_name="kimi, moon")
    assert config.decode_addresses == ("a:1", "b:2")
    assert config.vision_addresses == ()
    assert config.served_names == ("kimi", "moon")


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
    ],
)
def test_a_bad_setting_is_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=setting):
        GatewayConfig(**{setting: value})
