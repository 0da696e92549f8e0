"""Templates in requests are never run."""

from __future__ import annotations

import pytest

from tests.gateway.suite import chat_body

TEMPLATE = "{{ cycler.__init__.__globals__.os.system('touch /tmp/run') }}"
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
async def test_a_template_is_refused_by_the_name_of_its_field(suite, path):
    answer = await suite.http.post(path, json=chat_body(chat_template=TEMPLATE))
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (
        "chat_template",
        "unsupported_value",
    )
    assert not suite.decode.submits


async def test_a_template_among_the_arguments_of_the_template_is_refused_too(suite):
    answer = await suite.chat(chat_template_kwargs={"chat_template": TEMPLATE})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "chat_template_kwargs.chat_template"
    assert not suite.decode.submits


async def test_marks_of_a_template_in_a_text_are_text(suite):
    answer = await suite.http.post("/tokenize", json={"prompt": TEMPLATE})
    text = await suite.http.post("/detokenize", json={"tokens": answer.json()["tokens"]})
    assert TEMPLATE in text.text
