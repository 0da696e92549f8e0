from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from services.cli.run.greeting import greeting
from services.cli.run.plan import ChildPlan, SuitePlan
from services.common.logs import configure_logs
from services.engine.native import sources

PLAN = SuitePlan((), "127.0.0.1:31000", "127.0.0.1:51000", "127.0.0.1:52000", "little-one")


@pytest.fixture
def lines():
    return [line.strip() for line in greeting(PLAN, Path(".run")).splitlines()]


def one(lines, part):
    (found,) = [line for line in lines if part in line]
    return shlex.split(found)


def test_the_curl_line_is_a_valid_request(lines):
    words = one(lines, "curl")
    assert words[1] == "http://127.0.0.1:31000/v1/chat/completions"
    body = json.loads(words[words.index("-d") + 1])
    assert body["model"] == "little-one"
    assert body["messages"] == [{"role": "user", "content": "Hello"}]


def test_the_python_line_compiles(lines):
    words = one(lines, "import OpenAI")
    assert words[1] == "-c"
    compile(words[2], "line", "exec")
    assert re.search(r'base_url="http://127\.0\.0\.1:31000/v1"', words[2])


def test_the_chat_line_names_a_door_that_is_not_the_default(lines):
    assert one(lines, " chat ")[-2:] == ["--address", "127.0.0.1:51000"]


def test_a_model_that_anybody_may_use_comes_with_a_warning():
    assert "Warning" not in greeting(PLAN, Path(".run"))
    text = greeting(replace(PLAN, keyless=True), Path(".run"))
    assert "Warning: other machines reach REST and gRPC, and nobody needs an API key" in text


def shown(device, run_dir=Path("/nowhere")):
    worker = ChildPlan("decode", ("decode", "--device", device), "127.0.0.1:50053")
    return greeting(SuitePlan((worker,), "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "it"), run_dir)


def test_a_missing_compiler_shows_on_the_start_screen(monkeypatch):
    assert "compiler" not in shown("cpu")
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    assert "there is no C compiler (cc, gcc or clang)" in shown("cpu")
    assert "compiler" not in shown("cuda:0")


def test_a_library_that_was_compiled_before_needs_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    monkeypatch.setattr(sources, "prebuilt", lambda: tmp_path)
    monkeypatch.setattr(sources, "_REQUIRED", {})
    assert "compiler" not in shown("cpu")


def test_a_compiler_that_fails_shows_on_the_start_screen(monkeypatch, tmp_path):
    monkeypatch.setattr(sources.shutil, "which", lambda name: "/bin/cc")
    log = tmp_path / "decode.log"
    with log.open("w") as stream:
        configure_logs("INFO", stream)
        structlog.get_logger().info("loading")
        assert "C compiler" not in shown("cpu", tmp_path)
        structlog.get_logger().warning(sources.NO_LOOPS, detail="stdio.h: No such file or directory")
        stream.flush()
        assert "the C compiler fails" in shown("cpu", tmp_path)
    assert "perigee logs decode" in shown("cpu", tmp_path)
    assert "C compiler" not in shown("cuda:0", tmp_path)
