"""Patterns of formats against a validator's idea of them."""

from __future__ import annotations

import re

import pytest
from jsonschema import Draft202012Validator

from services.gateway.constraint.enforceable import compile_error
from services.gateway.constraint.formats import FORMAT_PATTERNS

CHECKER = Draft202012Validator.FORMAT_CHECKER
GOOD = {
    "date": ["2024-02-29", "2000-02-29", "1999-12-31", "0004-02-29"],
    "time": ["23:59:59Z", "00:00:00.5+05:30"],
    "date-time": ["2024-02-29T12:00:00Z", "2023-01-01T00:00:00.123456-08:00"],
    "email": ["a@b.co", "first.last@sub.example.org"],
    "hostname": ["example.org", "a", "a-b.c3.de"],
    "uri": ["https://example.org/a?b=c#d", "ftp://user@host:21/"],
    "uri-reference": ["/a/b?c", "https://x.org", ""],
    "json-pointer": ["", "/a/b~1c"],
    "relative-json-pointer": ["0#", "1/a"],
    "uri-template": ["https://example.org/{id}"],
}
BAD = {
    "date": ["2023-02-29", "1900-02-29", "2024-13-01", "2024-04-31", "0000-01-01"],
    "time": ["24:00:00Z", "23:59:60Z", "12:00:00"],
    "date-time": ["2024-02-30T12:00:00Z", "2024-02-29 12:00:00Z"],
    "email": ["a", "a@"],
    "hostname": ["-a.b", "a..b", "a" * 70, "a_b"],
    "uri": ["example.org", "http://a b"],
}


def test_every_pattern_is_one_the_library_takes():
    for pattern in FORMAT_PATTERNS.values():
        assert compile_error({"type": "string", "pattern": pattern}) == ""


@pytest.mark.parametrize("name", GOOD)
def test_usual_texts_match(name):
    for text in GOOD[name]:
        assert re.search(FORMAT_PATTERNS[name], text), text
        assert CHECKER.conforms(text, name), text


@pytest.mark.parametrize("name", BAD)
def test_wrong_texts_do_not_match(name):
    for text in BAD[name]:
        assert not re.search(FORMAT_PATTERNS[name], text), text
