"""Bytes to a typed body."""

import pytest

from services.common.errors import InvalidRequest
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.decoder import BodyDecoder


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "messages"),
        (b'{"messages": 1}', "messages"),
        (b'{"messages": [{"content": "x"}]}', "messages[0].role"),
        (b'{"messages": [{"role": 1}]}', "messages[0].role"),
        (b'{"messages": [{"role": "user", "content": 5}]}', "messages[0].content"),
        (b'{"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}',
         "messages[0].content[0].text"),
        (b'{"messages": [], "temperature": "hot"}', "temperature"),
        (b'{"messages": [], "n": 1.5}', "n"),
        (b'{"messages": [], "stream": 1}', "stream"),
        (b'{"messages": [], "stream_options": "usage"}', "stream_options"),
        (b'{"messages": [], "chat_template_kwargs": [false]}', "chat_template_kwargs"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_named_by_its_path(body, param):
    with pytest.raises(InvalidRequest) as caught:
        BodyDecoder(ChatBody).decode(body)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[]", b'{"messages": [NaN]}', b'{"audio":' + b"[" * 9000]
)
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(InvalidRequest) as caught:
        BodyDecoder(ChatBody).decode(body)
    assert caught.value.param is None


def test_null_means_absent_and_unknown_fields_are_ignored():
    body = BodyDecoder(ChatBody).decode(
        b'{"messages": [], "temperature": null, "stop": null, "my_field": {"a": 1}}'
    )
    assert body.temperature is None
    assert body.stop is None
