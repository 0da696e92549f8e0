from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from services.cli.main import main


@pytest.fixture
def directory(tmp_path):
    for number, role in enumerate(("decode", "gateway")):
        lines = [
            {"event": f"{role} {count}", "level": level, "timestamp": f"2026-11-30T10:00:0{count}.{number}Z"}
            for count, level in enumerate(("info", "warning", "info"))
        ]
        (tmp_path / f"{role}.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def logs(directory, *words):
    return main(["logs", *words, "--run-dir", str(directory)])


def test_the_logs_of_all_services_are_one_stream_for_people(directory, capsys):
    assert logs(directory) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()[-2:]) for line in lines] == [
        f"{role} {count}" for count in range(3) for role in ("decode", "gateway")
    ]


def test_those_of_one_service_as_they_are(directory, capsys):
    assert logs(directory, "decode", "--json") == 0
    assert capsys.readouterr().out == (directory / "decode.log").read_text()


def test_the_last_ones_and_the_worse_ones(directory, capsys):
    assert logs(directory, "-n", "1") == 0
    assert capsys.readouterr().out.endswith("gateway 2\n")
    assert logs(directory, "--level", "warning", "gateway") == 0
    assert capsys.readouterr().out.endswith("warning gateway 1\n")


def test_new_lines_follow_until_ctrl_c(directory):
    words = ["logs", "-f", "decode", "--json", "--run-dir", str(directory)]
    command = [sys.executable, "-m", "services.cli.main", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        seen = [json.loads(process.stdout.readline())["event"] for _ in range(3)]
        with (directory / "decode.log").open("a") as file:
            file.write('{"event": "new"}\n')
        seen.append(json.loads(process.stdout.readline())["event"])
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert seen == ["decode 0", "decode 1", "decode 2", "new"]


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (("vision",), 1, "there is no log of vision in "),
        (("-n", "-1"), 2, "--lines: must be 0 to 1,000,000, is -1"),
    ],
)
def test_what_is_not_there_is_named(directory, words, status, named, capsys):
    assert logs(directory, *words) == status
    assert named in capsys.readouterr().err


def test_the_directory_is_that_of_run(directory, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PERIGEE_RUN_DIR", str(directory))
    assert main(["logs", "-n", "1"]) == 0
    monkeypatch.delenv("PERIGEE_RUN_DIR")
    file = tmp_path / "perigee.toml"
    file.write_text(f'[run]\nrun_dir = "{directory}"\n')
    assert main(["logs", "-n", "1", "--config", str(file)]) == 0
    assert capsys.readouterr().out.count("gateway 2") == 2
