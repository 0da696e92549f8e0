"""Calls held back until they are checked."""

from __future__ import annotations

import jsonschema_rs
import pytest

from perigee.v1 import decode_pb2, sampling_pb2
from services.common.errors import InvalidToolCall
from services.gateway.chat.constraint.call_checks import CallChecks
from services.gateway.pipeline.call_gate import CallGate

CALL = '<|tool_call_begin|>functions.f.g:3<|tool_call_argument_begin|>{"a": %s}<|tool_call_end|>'


@pytest.fixture
def gate(tokenizer):
    schema = {"properties": {"a": {"uniqueItems": True}}}
    refused: list[int] = []
    checks = CallChecks({"f.g": jsonschema_rs.Draft202012Validator(schema)})
    gate = CallGate(tokenizer, checks, lambda: refused.append(1))
    gate.refused = refused
    return gate


def deltas(tokenizer, text, choice=0):
    for token_id in tokenizer.encode(text, parse_special=True):
        yield decode_pb2.SequenceDelta(choice=choice, token_ids=[token_id])


def released(gate, tokenizer, text, choice=0):
    return [list(gate.release(delta).token_ids) for delta in deltas(tokenizer, text, choice)]


def test_a_valid_call_comes_whole_with_its_end(gate, tokenizer):
    text = f"before{CALL % '[1, 2]'}after"
    parts = released(gate, tokenizer, text)
    assert [token for part in parts for token in part] == tokenizer.encode(text, parse_special=True)
    call = tokenizer.encode(CALL % "[1, 2]", parse_special=True)
    assert call in parts


def test_a_call_that_is_not_valid_is_never_released(gate, tokenizer):
    with pytest.raises(InvalidToolCall, match=r"f\.g .*arguments\.a"):
        released(gate, tokenizer, CALL % "[1, 1]")
    assert gate.refused == [1]


def test_what_is_held_comes_with_the_end_of_the_choice(gate, tokenizer):
    text = CALL.partition("%s")[0] % ()
    parts = released(gate, tokenizer, text)
    assert not any(parts)
    end = decode_pb2.SequenceDelta(finish_reason=sampling_pb2.FINISH_REASON_LENGTH)
    assert list(gate.release(end).token_ids) == tokenizer.encode(text, parse_special=True)


def test_choices_are_held_by_themselves(gate, tokenizer):
    half = tokenizer.encode(CALL % "[1]", parse_special=True)[:4]
    for token_id in half:
        gate.release(decode_pb2.SequenceDelta(choice=0, token_ids=[token_id]))
    other = gate.release(decode_pb2.SequenceDelta(choice=1, token_ids=[5]))
    assert list(other.token_ids) == [5]


def test_where_nothing_is_to_be_checked_nothing_is_held(tokenizer):
    gate = CallGate(tokenizer, CallChecks({}), lambda: None)
    assert all(released(gate, tokenizer, CALL % "[1, 1]"))
