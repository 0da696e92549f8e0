from __future__ import annotations

import json

from services.cli.run_directory.log_files import Logs


def write(path, *lines, mode="a"):
    with path.open(mode) as file:
        file.writelines(
            line if isinstance(line, str) else json.dumps({"event": line[1], "timestamp": line[0]}) + "\n"
            for line in lines
        )


def events(lines):
    return [(line.service, line.values["event"] if line.values else line.raw) for line in lines]


def test_lines_of_all_services_come_in_the_order_of_their_times(tmp_path):
    write(tmp_path / "decode.log", ("T1", "a"), ("T4", "d"))
    write(tmp_path / "gateway.log", ("T2", "b"), "not structured\n", ("T3", "c"))
    assert events(Logs(tmp_path, ["decode", "gateway", "vision"]).all_lines()) == [
        ("decode", "a"), ("gateway", "b"), ("gateway", "not structured"), ("gateway", "c"), ("decode", "d"),
    ]  # fmt: skip


def test_new_lines_are_those_added_since_once_they_are_complete(tmp_path):
    path = tmp_path / "decode.log"
    write(path, ("T1", "a"))
    logs = Logs(tmp_path, ["decode"])
    assert len(list(logs.all_lines())) == 1
    assert not list(logs.new_lines())
    write(path, ("T2", "b"), "half")
    assert events(logs.new_lines()) == [("decode", "b")]
    write(path, " a line\n")
    assert events(logs.new_lines()) == [("decode", "half a line")]


def test_a_log_that_was_emptied_is_read_from_its_start(tmp_path):
    path = tmp_path / "decode.log"
    write(path, ("T1", "a"), ("T2", "b"))
    logs = Logs(tmp_path, ["decode"])
    list(logs.all_lines())
    write(path, ("T3", "c"), mode="w")
    assert events(logs.new_lines()) == [("decode", "c")]


def test_a_log_that_comes_later_is_read(tmp_path):
    logs = Logs(tmp_path, ["decode"])
    assert not list(logs.all_lines())
    write(tmp_path / "decode.log", ("T1", "a"))
    assert events(logs.new_lines()) == [("decode", "a")]


def test_a_line_without_an_end_is_not_kept_in_memory(tmp_path):
    path = tmp_path / "decode.log"
    write(path, "x" * (3 << 20))
    lines = list(Logs(tmp_path, ["decode"]).all_lines())
    assert [len(line.raw) for line in lines] == [1 << 20] * 3


def test_what_is_no_utf8_or_separates_lines_elsewhere_ends_no_line(tmp_path):
    (tmp_path / "decode.log").write_bytes(b"a\xff\x0bb\n")
    assert events(Logs(tmp_path, ["decode"]).all_lines()) == [("decode", "a\ufffd\x0bb")]
