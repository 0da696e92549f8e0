"""Whole numbers that are written as floats."""

from __future__ import annotations

import pytest

from services.common.errors import InvalidRequest
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.completions import CompletionBody
from services.gateway.http.bodies.decoder import BodyDecoder
from services.gateway.http.bodies.generate import GenerateBody


def decode(text, schema=ChatBody):
    return BodyDecoder(schema).decode(text.encode())


@pytest.mark.parametrize("text", ["16", "16.0", "1.6e1", "16.000", "160e-1"])
def test_a_whole_float_counts_as_the_number(text):
    """A guard for 16."""
    body = decode(f'{{"messages": [], "max_tokens": {text}}}')
    assert (body.max_tokens, type(body.max_tokens)) == (16, int)


def test_so_do_several_wherever_they_stand():
    body = decode('{"messages": [], "n": 2.0, "top_k": 40.0, "seed": -1.0, "stop_token_ids": [1, 2.0, 3.0]}')
    assert (body.n, body.top_k, body.seed, body.stop_token_ids) == (2, 40, -1, [1, 2, 3])
    assert decode('{"prompt": "x", "logprobs": 1.0}', CompletionBody).logprobs == 1


def test_token_ids_beside_texts_or_lists_of_them_may_be_whole_floats():
    assert decode('{"prompt": [1, 2.0]}', CompletionBody).prompt == [1, 2]
    assert decode('{"prompt": [[3.0], [4, 5.0]]}', CompletionBody).prompt == [[3], [4, 5]]
    ids = decode('{"input_ids": [6.0, 7]}', GenerateBody).input_ids
    assert (ids, {type(each) for each in ids}) == ([6, 7], {int})


def test_numbers_that_need_not_be_whole_stay_floats():
    body = decode('{"messages": [], "max_tokens": 1.0, "temperature": 1.0, "tools": [{"x": 2.0}]}')
    assert type(body.temperature) is float
    assert type(body.tools[0]["x"]) is float


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ('{"messages": [], "max_tokens": 16.5}', "max_tokens"),
        ('{"messages": [], "max_tokens": "16"}', "max_tokens"),
        ('{"messages": [], "max_tokens": 16.0, "n": 1.5}', "n"),
        ('{"messages": [], "max_tokens": 16.0, "temperature": "hot"}', "temperature"),
        ('{"messages": [], "stop_token_ids": [1.0, 2.5]}', "stop_token_ids[1]"),
        ('{"messages": [], "max_tokens": true}', "max_tokens"),
        ('{"messages": [], "max_tokens": 1e999}', "max_tokens"),
        ('{"max_tokens": 16.0}', "messages"),
        ('{"messages": [], "top_k": 1.0, "stop": 1.0}', "stop"),
    ],
)
def test_what_is_not_whole_is_refused_by_name(text, param):
    """A guard where no other field is a whole float."""
    with pytest.raises(InvalidRequest) as caught:
        decode(text)
    assert caught.value.param == param


def test_very_many_of_them_are_refused_instead_of_read_one_by_one():
    ids = ",".join(["1.0"] * 1000)
    with pytest.raises(InvalidRequest) as caught:
        decode(f'{{"messages": [], "stop_token_ids": [{ids}]}}')
    assert caught.value.param.startswith("stop_token_ids[")
