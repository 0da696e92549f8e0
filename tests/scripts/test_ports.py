from __future__ import annotations

import socket

import pytest

from scripts.environment import ports
from scripts.environment.ports import PortSetting, taken_ports
from services.cli.run_config import PORTS, RunConfig
from services.common.settings import flag_name


@pytest.fixture
def taken(monkeypatch):
    """The number of a port on which somebody listens; by default perigee run would want it for REST."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(ports, "SETTINGS", (PortSetting("--http-port", port, host_flag="--host"),))
        yield port


def test_a_taken_port_is_named_with_the_flag_that_chooses_another(taken):
    (line,) = taken_ports([], {})
    assert line == f"port {taken} is in use: stop what listens there, or choose another with --http-port"


@pytest.mark.parametrize(
    "words", [["--http-port", "0"], ["--http-port=0"], ["--http-port", "1", "--http-port=0"]]
)
def test_a_flag_chooses_another_port(taken, words):
    assert taken_ports(words, {"PERIGEE_HTTP_PORT": str(taken)}) == []


def test_a_variable_chooses_another_port(taken):
    assert taken_ports([], {"PERIGEE_HTTP_PORT": "0"}) == []


@pytest.mark.parametrize(
    "words", [["--dry-run"], ["--config", "x.toml"], ["--host=203.0.113.1"], ["--http-port", "x"]]
)
def test_what_perigee_run_does_not_want_or_says_better_is_left_to_it(taken, words):
    assert taken_ports(words, {}) == []


def test_all_ports_of_a_setting_are_looked_at(taken, monkeypatch):
    monkeypatch.setattr(ports, "SETTINGS", (PortSetting("--port-base", taken - 2, 3),))
    assert [f"port {taken} " in line for line in taken_ports([], {})][-1:] == [True]


def test_the_ports_are_those_of_perigee_run():
    counts = {flag_name(key): (getattr(RunConfig(), key), count) for key, count in PORTS}
    assert {setting.flag: (setting.first, setting.count) for setting in ports.SETTINGS} == counts
