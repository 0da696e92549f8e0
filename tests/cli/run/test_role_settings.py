"""A setting that `perigee run` would overwrite is refused, not ignored."""

from __future__ import annotations

import pytest

from services.cli.run.command import run_suite
from services.cli.run.plan import make_plan
from services.cli.run.role_settings import resolved_role, with_role_settings
from services.cli.run_config import RunConfig
from services.cli.settings_source import Sources
from services.common.errors import ConfigError
from tests.support.endpoints import ENDPOINTS

FREE = {"http_port": 0, "grpc_port": 0, "operator_port": 0, "port_base": 0, "metrics_port_base": 0}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "little-one"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "kimi_k25"}')
    return path


@pytest.fixture
def roles(checkpoint, tmp_path):
    """Each role's configuration under a settings file and an environment."""

    def resolve(text="", env=None, of_roles=None, **changes):
        file = tmp_path / "perigee.toml"
        file.write_text(text)
        config = RunConfig(model=str(checkpoint), **(FREE | changes))
        plan = make_plan(config, ENDPOINTS, str(file))
        sources = Sources(env or {}, str(file), of_roles or {})
        return {child.role: resolved_role(child, config, sources) for child in plan.children}

    return resolve


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[gateway]\nhost = "0.0.0.0"', r"\[gateway\] host = 0.0.0.0: .*set \[run\] host or --host"),
        ("[gateway]\nhttp_port = 8080", r"\[gateway\] http_port = 8080: .*set \[run\] http_port"),
        ("[gateway]\ngrpc_port = 8081", r"\[gateway\] grpc_port = 8081: .*set \[run\] grpc_port"),
        ('[gateway]\ndecode = "a:1"', r"\[gateway\] decode = a:1: .*leave it out"),
        ('[gateway]\nmodel = "other"', r"\[gateway\] model = other: .*set \[run\] model"),
        ("[vision]\nport = 7000", r"\[vision\] port = 7000: .*set \[run\] port_base or --port-base"),
        ("[decode]\nmetrics_port = 7001", r"\[decode\] metrics_port = 7001: .*\[run\] metrics_port_base"),
        ('[prefill]\nhost = "10.0.0.1"', r"\[prefill\] host = 10.0.0.1"),
    ],
)
def test_a_setting_of_a_role_that_the_suite_decides_is_refused_with_what_to_set_instead(roles, text, named):
    with pytest.raises(ConfigError, match=named):
        roles(text)


@pytest.mark.parametrize("key", ["PERIGEE_PORT", "PERIGEE_METRICS_PORT", "PERIGEE_DECODE"])
def test_a_variable_that_no_service_would_hear_is_refused(roles, key):
    with pytest.raises(ConfigError, match=f"{key} = 127.0.0.1:7: would have no effect"):
        roles(env={key: "127.0.0.1:7"})


def test_what_says_the_same_is_no_error(roles, checkpoint):
    host = 'host = "127.0.0.1"\n'
    text = f'[gateway]\n{host}http_port = 0\nmodel = "{checkpoint}/../little-one"\n[decode]\n{host}'
    assert roles(text)["decode"].host == "127.0.0.1"


def test_a_conflict_with_what_run_was_told_is_refused_and_agreement_is_not(roles):
    assert roles("[prefill]\ntp = 2", tp=2)["prefill"].tp == 2
    assert roles("[prefill]\ntp = 2")["prefill"].tp == 2
    with pytest.raises(ConfigError, match=r"\[prefill\] tp = 4: .*set \[run\] tp"):
        roles("[prefill]\ntp = 4", tp=2)
    with pytest.raises(ConfigError, match=r"\[gateway\] reasoning_parser = kimi_k2"):
        roles('[gateway]\nreasoning_parser = "kimi_k2"', reasoning_parser="none")


def test_aggregated_reaches_decode_and_is_not_taken_back_by_its_own_settings(roles):
    found = roles(aggregated=True)
    assert found["decode"].aggregated
    assert found["gateway"].prefill == ""
    assert "prefill" not in found
    with pytest.raises(ConfigError, match=r"\[decode\] aggregated = False: .*set \[run\] aggregated"):
        roles("[decode]\naggregated = false", aggregated=True)
    with pytest.raises(ConfigError, match=r"PERIGEE_PREFILL = a:1: .*leave it out"):
        roles(env={"PERIGEE_PREFILL": "a:1"}, aggregated=True)


def test_what_a_service_would_refuse_is_refused_before_any_starts(roles):
    with pytest.raises(ConfigError, match="kv_pags"):
        roles("[decode]\nkv_pags = 5")
    with pytest.raises(ConfigError, match="request_timeout_seconds"):
        roles(env={"PERIGEE_REQUEST_TIMEOUT_SECONDS": "inf"})


def test_a_flag_of_one_service_reaches_its_command_line_and_no_other(checkpoint):
    config = RunConfig(model=str(checkpoint), **FREE)
    sources = Sources({}, of_roles={"decode": {"kv_pages": "64", "deterministic": False}})
    plan, settings = with_role_settings(make_plan(config, ENDPOINTS), config, sources)
    words = {child.role: child.arguments for child in plan.children}
    assert words["decode"][-2:] == ("--kv-pages=64", "--no-deterministic")
    assert not any("kv-pages" in word for role in ("vision", "prefill", "gateway") for word in words[role])
    assert (settings["decode"].kv_pages, settings["decode"].deterministic) == (64, False)


def test_a_flag_of_one_service_wins_over_its_variable_which_wins_over_that_of_all(roles):
    env = {"PERIGEE_KV_PAGES": "10", "PERIGEE_DECODE_KV_PAGES": "20"}
    found = roles("[decode]\nkv_pages = 5", env)
    assert (found["prefill"].kv_pages, found["decode"].kv_pages) == (10, 20)
    assert roles(env=env, of_roles={"decode": {"kv_pages": "30"}})["decode"].kv_pages == 30


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ({"of_roles": {"decode": {"port": "7"}}}, r"--decode\.port = 7: would have no effect.*port_base"),
        ({"env": {"PERIGEE_VISION_PORT": "7"}}, r"PERIGEE_VISION_PORT = 7: would have no effect.*port_base"),
        ({"of_roles": {"decode": {"kv_pages": "-1"}}}, r"kv_pages: must be 1 to .*from --decode\.kv-pages"),
    ],
)
def test_a_setting_of_one_service_that_cannot_be_is_refused_as_it_was_spelt(roles, sources, named):
    with pytest.raises(ConfigError, match=named):
        roles(**sources)


@pytest.mark.parametrize(
    ("config", "gateway", "keyless"),
    [
        ({}, {}, False),
        ({"host": "0.0.0.0", "insecure": True}, {}, True),
        ({"host": "0.0.0.0", "insecure": True}, {"api_keys": "keys.json"}, False),
    ],
)
def test_a_plan_knows_whether_anybody_may_use_the_model(checkpoint, config, gateway, keyless):
    config = RunConfig(model=str(checkpoint), **FREE, **config)
    sources = Sources({}, of_roles={"gateway": gateway})
    assert with_role_settings(make_plan(config, ENDPOINTS), config, sources)[0].keyless == keyless


def test_a_service_is_not_killed_before_its_grace_is_over(roles):
    assert roles("[gateway]\ngrace_seconds = 120", stop_timeout_seconds=129.0)["gateway"].grace_seconds == 120
    with pytest.raises(ConfigError, match=r"must exceed the grace_seconds of gateway, 120, by 9"):
        roles("[gateway]\ngrace_seconds = 120", stop_timeout_seconds=128.0)
    with pytest.raises(ConfigError, match=r"must exceed the grace_seconds of decode, 31, by 5"):
        roles("[decode]\ngrace_seconds = 31")


def test_the_model_is_shown_by_the_name_that_the_gateway_gives_it(checkpoint):
    config = RunConfig(model=str(checkpoint), **FREE)
    plan = make_plan(config, ENDPOINTS)
    assert with_role_settings(plan, config, Sources({}))[0].model_name == "little-one"
    named, _ = with_role_settings(plan, config, Sources({"PERIGEE_SERVED_MODEL_NAME": "first,second"}))
    assert named.model_name == "first"


def test_nothing_starts_with_a_setting_that_would_be_ignored(checkpoint, tmp_path):
    file = tmp_path / "perigee.toml"
    file.write_text("[gateway]\nhttp_port = 8080\n")
    config = RunConfig(model=str(checkpoint), run_dir=tmp_path / "run", **FREE)
    with pytest.raises(ConfigError, match="http_port"):
        run_suite(config, Sources({}, str(file)))
    assert not list((tmp_path / "run").glob("*.log"))
