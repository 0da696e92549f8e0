from __future__ import annotations

import json
import re

import pytest

from services.cli.run_directory.log_line import LogLine

AT = "2026-11-30T18:15:28.428698Z"


def line(**values):
    return LogLine.of(
        "decode", json.dumps({"timestamp": AT, "level": "info", "role": "decode", **values}), ""
    )


def shown(**values):
    return line(**values).shown(colours=False)


def test_a_structured_line_is_time_service_level_event_and_values():
    text = shown(event="serving", port=50053, ok=True, name="two words", nothing=None)
    values = 'port=50053  ok=true  name="two words"  nothing=null'
    assert re.fullmatch(rf"\d\d:\d\d:28\.428  decode   info    serving  {values}", text)


def test_a_traceback_stands_below_its_line():
    text = shown(event="failed", level="error", exception="Traceback:\n  File x\nValueError: y")
    assert text.splitlines()[1:] == ["    Traceback:", "      File x", "    ValueError: y"]


def test_what_controls_a_terminal_is_replaced_wherever_it_stands():
    for text in (
        shown(event="e\x1b[2J", **{"k\x1b": "v\x1b"}),
        LogLine.of("decode", "plain \x1b[2J", "").shown(colours=False),
    ):
        assert "\x1b" not in text


def test_a_line_of_something_else_is_shown_as_it_is_at_the_time_of_the_one_before():
    plain = LogLine.of("decode", "Fatal Python error", AT)
    assert (plain.time, plain.values) == (AT, None)
    assert plain.shown(colours=False).endswith("decode   Fatal Python error")
    assert LogLine.of("decode", '{"not": "ours"}', AT).values is None
    assert LogLine.of("decode", "{broken", AT).values is None


def test_the_configuration_is_not_spread_out():
    ending = "configuration  (2 settings: see `perigee config show`, or --json)"
    assert shown(event="configuration", a=1, b=2).endswith(ending)


@pytest.mark.parametrize(
    ("level", "least", "kept"),
    [("info", "debug", True), ("info", "warning", False), ("error", "warning", True), ("odd", "error", True)],
)
def test_lines_below_a_level_can_be_left_out(level, least, kept):
    assert line(event="x", level=level).is_at_least(least) == kept


def test_what_has_no_level_is_never_left_out():
    assert LogLine.of("decode", "Fatal Python error", "").is_at_least("error")


def test_colours_mark_what_went_wrong():
    assert "\x1b[31merror" in line(event="x", level="error").shown(colours=True)
    assert "\x1b" not in line(event="x").shown(colours=True)
