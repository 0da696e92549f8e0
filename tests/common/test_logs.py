from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from services.common.errors import InvalidRequest
from services.common.logs import configure_logs, raised_at, set_log_level


@pytest.fixture(autouse=True)
def _restored():
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_machine_reads_json_lines_with_level_time_and_role():
    out = io.StringIO()
    configure_logs(stream=out, role="prefill")
    structlog.get_logger().info("pages leased", pages=3)
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "pages leased", "level": "info", "pages": 3, "role": "prefill"}


def test_a_line_is_one_write_so_that_lines_of_several_processes_do_not_mix():
    class Stream(io.StringIO):
        writes = 0

        def write(self, text):
            self.writes += 1
            return super().write(text)

    out = Stream()
    configure_logs(stream=out)
    structlog.get_logger().info("pages leased", pages=3)
    assert out.writes == 1
    assert out.getvalue().endswith("}\n")


def test_a_terminal_shows_key_value_lines():
    out = Terminal()
    configure_logs(stream=out)
    structlog.get_logger().info("pages leased", pages=3)
    assert "pages leased" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_lines_below_the_level_are_dropped():
    out = io.StringIO()
    configure_logs(level="WARNING", stream=out)
    structlog.get_logger().info("quiet")
    assert out.getvalue() == ""


def test_warnings_of_libraries_come_in_the_same_form():
    out = io.StringIO()
    configure_logs(stream=out)
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("something is off")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["something is off"]


def test_a_traceback_is_part_of_the_line_it_belongs_to():
    out = io.StringIO()
    configure_logs(stream=out)
    try:
        raise KeyError("lost")
    except KeyError:
        structlog.get_logger().exception("failed")
    (line,) = out.getvalue().splitlines()
    assert "KeyError: 'lost'" in json.loads(line)["exception"]


def test_where_an_error_was_raised_is_told_without_its_text_or_those_of_its_causes():
    try:
        try:
            raise KeyError("lost")
        except KeyError:
            raise ExceptionGroup("secret", [OSError("hidden"), ValueError("veiled")]) from None
    except ExceptionGroup as error:
        shown = raised_at(error)
    assert [line for line in shown.splitlines() if line[0] != " "] == [
        "ExceptionGroup",
        "OSError",
        "ValueError",
    ]
    assert "test_logs.py" in shown


def test_an_unknown_level_is_refused():
    with pytest.raises(InvalidRequest, match=r"LOUD.*DEBUG, INFO, WARNING, ERROR"):
        configure_logs(level="LOUD")


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise OSError(28, "no space left on device")


def closed() -> io.StringIO:
    out = io.StringIO()
    out.close()
    return out


@pytest.mark.parametrize("make", [Broken, closed])
def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(make, capsys):
    configure_logs(stream=make())
    structlog.get_logger().info("lost")
    logging.getLogger("library").warning("lost too")
    assert capsys.readouterr().err == ""


def test_without_a_standard_error_lines_are_lost(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    configure_logs()
    structlog.get_logger().info("lost")


def test_the_level_changes_while_a_process_runs_and_nothing_else_does():
    out = io.StringIO()
    configure_logs("INFO", stream=out, role="prefill")
    log = structlog.get_logger()
    log.debug("not yet")
    set_log_level("debug")
    log.debug("now", pages=3)
    set_log_level("ERROR")
    log.warning("no more")
    logging.getLogger("library").warning("nor this")
    [line] = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (line["event"], line["role"], line["pages"]) == ("now", "prefill", 3)
    with pytest.raises(InvalidRequest, match="quiet"):
        set_log_level("quiet")
