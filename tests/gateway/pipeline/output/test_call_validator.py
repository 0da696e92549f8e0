"""Finished calls, judged before they are released."""

from __future__ import annotations

import jsonschema_rs
import pytest

from services.common.errors import InvalidToolCall
from services.gateway.constraint.call_checks import CallChecks
from services.gateway.pipeline.output.call_validator import CallJudge


@pytest.fixture
def refused():
    return []


@pytest.fixture
def judge(refused):
    schema = {"properties": {"a": {"uniqueItems": True}}}
    checks = CallChecks({"f.g": jsonschema_rs.Draft202012Validator(schema)})
    return CallJudge(checks, lambda: refused.append(1))


def test_a_valid_call_and_one_without_a_check_are_released(judge, refused):
    assert judge("f.g", '{"a": [1, 2]}')
    assert judge("other", '{"a": [1, 1]}')
    assert refused == []


@pytest.mark.parametrize("arguments", ['{"a": [1, 1]}', '{"a": [', ""])
def test_a_call_that_is_not_valid_is_counted_and_named(judge, refused, arguments):
    with pytest.raises(InvalidToolCall, match=r"f\.g"):
        judge("f.g", arguments)
    assert refused == [1]
