"""Schemas too large to be walked through."""

from __future__ import annotations

import time

import pytest

from services.common.errors import InvalidRequest
from services.gateway.constraint.bounds import MAX_DEPTH, checked_text


def nested(depth: int) -> dict:
    schema: dict = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "bound"),
    [
        (nested(MAX_DEPTH + 2), "levels deep"),
        ({"enum": list(range(30_000))}, "values"),
        ({"properties": {f"p{i}": True for i in range(1001)}}, "members"),
        ({"description": "x" * 300_000}, "bytes"),
        (nested(900), "levels deep"),
    ],
)
def test_what_is_too_large_is_refused_by_the_bound_it_breaks(schema, bound):
    started = time.thread_time()
    with pytest.raises(InvalidRequest, match=bound) as refusal:
        checked_text(schema, "tools[0]")
    assert refusal.value.param == "tools[0]"
    assert time.thread_time() - started < 1


def test_what_is_within_the_bounds_becomes_text():
    assert checked_text({"type": "object"}, "p") == '{"type": "object"}'
    checked_text(nested(MAX_DEPTH), "p")
