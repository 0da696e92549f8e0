"""JSON is counted before it is built, and what stands in strings does not count."""

import json

import pytest

from services.common.errors import InvalidRequest
from services.gateway.pipeline.prompt.json_counts import (
    MOST_CONTAINERS,
    MOST_ITEMS,
    MOST_STRINGS,
    check_counts,
)

TOO_MUCH = [
    b'{"n":1,"messages":[' + b"{}," * MOST_CONTAINERS + b"{}]}",
    b'{"messages":[{"role":"user"}],"x":{"messages":' + b"[" * 3 * MOST_CONTAINERS + b"]",
    b'{"logit_bias":{' + b",".join(b'"%d":0' % n for n in range(MOST_STRINGS + 1)) + b"}}",
    b'{"stop":[' + b'"a",' * MOST_STRINGS + b'"a", 0]}',
    b'{"prompt" : [' + b"7 ,\n" * MOST_ITEMS + b"7, 8]}",
    b"[" + b"[]," * MOST_CONTAINERS + b"[]]",
]


def test_the_field_that_holds_too_much_is_named_with_the_bound():
    named = []
    for body in TOO_MUCH:
        with pytest.raises(InvalidRequest) as raised:
            check_counts(body)
        named.append(raised.value.param)
        assert any(
            f"at most {most} " in raised.value.message for most in (MOST_CONTAINERS, MOST_STRINGS, MOST_ITEMS)
        )
    assert named == ["messages", "x", "logit_bias", "stop", "prompt", None]


def test_a_field_that_holds_json_as_text_is_named_by_its_caller():
    with pytest.raises(InvalidRequest) as raised:
        check_counts(TOO_MUCH[0], "tools_json")
    assert raised.value.param == "tools_json"


@pytest.mark.parametrize(
    "text",
    [
        "[{},:" * MOST_ITEMS,
        json.dumps(json.dumps([{"a": "b"}] * MOST_CONTAINERS)),
        "\\" * 300_001 + '"' + "{[" * MOST_CONTAINERS,
        "[" * MOST_CONTAINERS * 2 + "\\",
        "x" * ((1 << 20) - 13) + "\\" + "[" * MOST_CONTAINERS * 2,
    ],
    ids=["marks", "json in json", "backslashes", "backslash last", "backslash on a stride"],
)
def test_what_is_in_a_string_does_not_count(text):
    check_counts(json.dumps({"messages": [{"role": "user", "content": text}] * 2}).encode())


def test_exactly_the_bound_is_taken():
    check_counts(b'{"a":[' + b"{}," * (MOST_CONTAINERS - 3) + b"{}]}")
    check_counts(b'{"a":[' + b"7," * MOST_ITEMS + b"7]}")


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"' + b"{" * 300_000,
        b'{"a":"' + b'\\"' * 3_000_000,
        b'{"a":"' + b'\\"{' * 3_000_000 + b"\\",
        b'{"a":' + b" " * 3_000_000 + b'"' + b"[" * 300_000,
        b"}" * 300_000 + b'"' + b"[" * 300_000,
    ],
)
def test_what_never_ends_is_left_to_the_decoder(body):
    check_counts(body)
