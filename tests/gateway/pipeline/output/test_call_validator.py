"""Finished calls, judged before they are released."""

from __future__ import annotations

import jsonschema_rs
import pytest

from services.common.errors import InvalidToolCall
from services.gateway.constraint.call_checks import CallChecks
from services.gateway.pipeline.output.call_validator import CallValidator


@pytest.fixture
def refused():
    return []


@pytest.fixture
def validate(refused):
    schema = {"properties": {"a": {"uniqueItems": True}}}
    checks = CallChecks({"f.g": jsonschema_rs.Draft202012Validator(schema)})
    return CallValidator(checks, lambda: refused.append(1))


def test_a_valid_call_and_one_without_a_check_are_released(validate, refused):
    assert validate("f.g", '{"a": [1, 2]}')
    assert validate("other", '{"a": [1, 1]}')
    assert refused == []


@pytest.mark.parametrize("arguments", ['{"a": [1, 1]}', '{"a": [', ""])
def test_a_call_that_is_not_valid_is_counted_and_named(validate, refused, arguments):
    with pytest.raises(InvalidToolCall, match=r"f\.g"):
        validate("f.g", arguments)
    assert refused == [1]
