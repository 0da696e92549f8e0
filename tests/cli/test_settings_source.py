from __future__ import annotations

import argparse

import pytest

from services.cli.roles import ROLES, config_class
from services.cli.run_config import RunConfig
from services.cli.settings_source import (
    Sources,
    add_setting_flags,
    add_suite_flags,
    log_level,
    resolve_settings,
)
from services.common.errors import ConfigError


def resolved(cls, table, words=(), env=None):
    parser = argparse.ArgumentParser()
    add_setting_flags(parser, cls)
    return resolve_settings(cls, table, parser.parse_args(list(words)), env or {})


@pytest.mark.parametrize("role", ROLES)
def test_every_role_starts_from_its_defaults(role):
    assert resolved(config_class(role), role) == config_class(role)()


def test_one_file_serves_all_processes(tmp_path):
    path = tmp_path / "perigee.toml"
    path.write_text('[prefill]\nport = 7\n[run]\nserved_model_name = "a"\n')
    assert resolved(config_class("prefill"), "prefill", ["--config", str(path)]).port == 7
    assert resolved(RunConfig, "run", env={"PERIGEE_CONFIG": str(path)}).served_model_name == "a"
    assert resolved(config_class("decode"), "decode", ["--config", str(path)]) == config_class("decode")()


def test_flags_win_over_the_file(tmp_path):
    path = tmp_path / "perigee.toml"
    path.write_text("[prefill]\nport = 7\n")
    words = ["--config", str(path), "--port", "8"]
    assert resolved(config_class("prefill"), "prefill", words).port == 8


def levels(*words, **env):
    parser = argparse.ArgumentParser()
    add_setting_flags(parser, RunConfig)
    add_suite_flags(parser)
    return Sources.of(parser.parse_args(words), env).levels


def test_a_log_level_of_the_suite_reaches_all_services_and_one_of_a_service_that_one():
    env = levels("--log-level", "warning", "--decode.log-level", "debug")
    assert [log_level(role, env) for role in ("prefill", "decode", "gateway")] == [
        "WARNING",
        "DEBUG",
        "WARNING",
    ]
    assert log_level("decode", {}) == "INFO"
    with pytest.raises(ConfigError, match=r"--decode\.log-level: unknown log level 'loud'; use DEBUG"):
        levels("--decode.log-level", "loud")


def test_a_variable_with_an_unknown_log_level_is_refused_before_any_service_starts():
    with pytest.raises(ConfigError, match=r"PERIGEE_LOG_LEVEL: unknown log level 'loud'"):
        levels(PERIGEE_LOG_LEVEL="loud")
    assert levels(PERIGEE_DECODE_LOG_LEVEL="debug") == {}


def test_a_variable_of_another_role_is_no_error_but_a_misspelt_one_is():
    env = {
        "PERIGEE_HTTP_PORT": "1",
        "PERIGEE_SHARED": "/x",
        "PERIGEE_LOG_LEVEL": "INFO",
        "PERIGEE_PREFILL_LOG_LEVEL": "DEBUG",
    }
    assert resolved(config_class("decode"), "decode", env=env)
    with pytest.raises(ConfigError, match="PERIGEE_KV_PAGE"):
        resolved(config_class("decode"), "decode", env={"PERIGEE_KV_PAGE": "1"})
