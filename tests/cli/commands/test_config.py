from __future__ import annotations

import json
import re
import socket
import tomllib

import pytest

from services.cli.main import main


@pytest.fixture
def shown(nano_dir, capsys):
    """What `perigee config show` prints of the embedded checkpoint, with these words."""

    def show(*words):
        assert main(["config", "show", "--model", str(nano_dir), *words]) == 0
        return capsys.readouterr().out

    return show


def test_every_setting_is_shown_with_its_value_and_where_it_comes_from(shown, monkeypatch, tmp_path):
    file = tmp_path / "perigee.toml"
    file.write_text("[decode]\nkv_pages = 5\nmax_waiting = 6\n[gateway]\nmax_tools = 7\n")
    monkeypatch.setenv("PERIGEE_DECODE_KV_PAGES", "2048")
    monkeypatch.setenv("PERIGEE_THREADS", "2")
    text = shown("--config", str(file), "--http-port", "8080", "--decode.max-running", "3")
    lines = [re.split(r"  +# ", line) for line in text.splitlines()]
    for line in (
        ["http_port = 8080", "--http-port"],
        ["kv_pages = 2048", "PERIGEE_DECODE_KV_PAGES"],
        ["max_running = 3", "--decode.max-running"],
        ["max_waiting = 6", "the settings file"],
        ["max_tools = 7", "the settings file"],
        ["threads = 2", "PERIGEE_THREADS"],
        ["grpc_port = 50050", "default"],
    ):
        assert line in lines
    assert "# chunk_tokens is not set" in text


def test_the_difference_is_what_is_not_as_by_default(shown):
    text = shown("--diff", "decode", "prefill", "--decode.kv-pages", "64", "--prefill.kv-pages", "auto")
    assert text == "[decode]\nkv_pages = 64  # --decode.kv-pages\n"


def test_a_difference_of_nothing_says_so(shown):
    assert shown("--diff", "vision") == "# every setting is as by default\n"


def test_what_it_prints_is_a_settings_file_with_the_same_meaning(shown, tmp_path):
    words = ("--http-port", "8080", "--decode.kv-pages", "64", "--gateway.allowed-hosts", "a,b")
    text = shown(*words)
    assert tomllib.loads(text)["gateway"]["allowed_hosts"] == ["a", "b"]
    file = tmp_path / "perigee.toml"
    file.write_text(text)
    again = shown("--config", str(file))
    assert tomllib.loads(again) == tomllib.loads(text)


def test_what_the_suite_decides_for_its_services_is_left_out(shown):
    tables = json.loads(shown("--json"))
    assert list(tables) == ["run", "vision", "prefill", "decode", "gateway"]
    assert not {"model", "port", "metrics_port", "prefill_pool"} & tables["decode"].keys()
    assert tables["run"]["port_base"] == {"value": 50051, "source": "default"}
    assert "crew" not in tables["gateway"]


def test_a_suite_that_runs_is_no_hindrance(shown):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"http_port = {port}" in shown("run", "--diff", "--http-port", port)


def test_without_prefill_workers_it_has_no_settings(shown):
    assert "[prefill]" not in shown("--aggregated")


def test_what_would_not_start_is_refused_in_the_same_words(nano_dir, capsys):
    assert main(["config", "show", "--model", str(nano_dir), "--decode.port", "7"]) == 2
    assert "--decode.port = 7: would have no effect" in capsys.readouterr().err
    assert main(["config", "show", "--model", "absent"]) == 2
    assert "absent is not a checkpoint directory" in capsys.readouterr().err
    assert main(["config", "show", "decod"]) == 2
    assert "decod: no table of settings; did you mean decode?" in capsys.readouterr().err
