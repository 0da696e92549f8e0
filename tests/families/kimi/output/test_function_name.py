from __future__ import annotations

import pytest

from services.families.kimi.output.function_name import function_name


@pytest.mark.parametrize(
    ("call_id", "name"),
    [
        ("functions.search:0", "search"),
        ("functions.a.b.c:12", "a.b.c"),
        ("functions.get-weather_2:0", "get-weather_2"),
        ("functions.天気:3", "天気"),
        ("functions.functions.x:0", "functions.x"),
        ("functions.ns:tool:0", "ns:tool"),
        ("search:0", "search"),
        ("search", "search"),
        ("functions.search", "search"),
        (" \nfunctions.search : 0\n", "search"),
        ("3", "3"),
        ("functions.:0", ""),
        (":0", ""),
        ("", ""),
    ],
)
def test_the_name_is_what_stands_between_prefix_and_last_colon(call_id, name):
    assert function_name(call_id, {"search", "f"}) == name


@pytest.mark.parametrize("call_id", ["3", " 0 ", "functions.3", "functions.:0", ":0", "", "3:0"])
def test_without_a_name_the_only_declared_tool_is_meant(call_id):
    assert function_name(call_id, {"search"}) == "search"


def test_another_name_never_stands_for_the_only_declared_tool():
    assert function_name("functions.find:0", {"search"}) == "find"


def test_a_tool_may_be_called_by_a_number():
    assert function_name("functions.3:0", {"3"}) == "3"
    assert function_name("functions.3:0", {"3", "4"}) == "3"
