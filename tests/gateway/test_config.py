"""Settings of the gateway."""

import pytest

from services.common.errors import ConfigError
from services.gateway.config import GatewayConfig
from services.gateway.constraint.builder import MAX_TOOLS


def test_no_more_tools_are_taken_by_default_than_a_grammar_has_place_for():
    assert GatewayConfig().max_tools == MAX_TOOLS


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
        ("reasoning_parser", "kimi"),
        ("tool_call_parser", ""),
    ],
)
def test_a_bad_setting_is_refused_by_name(setting, value):
    with pytest.raises(ConfigError, match=setting):
        GatewayConfig(**{setting: value})


@pytest.mark.parametrize("setting", ["model", "vision", "prefill", "decode"])
def test_beside_a_tokenizer_alone_a_setting_of_model_or_workers_is_refused(setting):
    with pytest.raises(ConfigError, match=f"{setting}: there:5 has no use beside tokenizer"):
        GatewayConfig(tokenizer="dir", **{setting: "there:5"})


def test_a_tokenizer_alone_has_no_pools():
    assert GatewayConfig(tokenizer="dir", decode="").pools == ("", "", "")
    assert GatewayConfig(vision="", decode="a:1").pools == ("", "127.0.0.1:50052", "a:1")
