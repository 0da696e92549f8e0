"""The description for people."""

from __future__ import annotations

import html
import json
import re
import shlex

import pytest
from starlette.requests import Request

from services.gateway.http.pages.docs import DocumentPages
from services.gateway.http.pages.docs_page import DocsPage
from services.gateway.http.pages.schema_words import type_words


def document_with(schemas, path, text="text"):
    """A document with one GET route."""
    answers = {"200": {"content": {"text/html": {"schema": {"type": "string"}}}}}
    return {
        "info": {"title": text, "version": "1", "description": text},
        "paths": {path: {"get": {"summary": text, "parameters": [], "responses": answers}}},
        "components": {"schemas": schemas},
    }


async def examples(suite):
    """The words of every command line on the page."""
    page = (await suite.http.get("/docs")).text
    return [shlex.split(html.unescape(text)) for text in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]


async def test_every_route_has_an_example_that_gets_a_good_answer(suite):
    document = (await suite.http.get("/openapi.json")).json()
    commands = await examples(suite)
    assert len(commands) == sum(len(methods) for methods in document["paths"].values()) > 15
    base = str(suite.http.base_url).rstrip("/")
    for words in commands:
        assert words[0] == "curl"
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if "-d" in words else "GET"
        [url] = [word for word in words if word.startswith("http")]
        assert url.startswith(base), "the address is that by which the page was asked for"
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
        answer = await suite.http.request(method, url, json=body)
        assert answer.status_code == 200, (url, answer.text)


@pytest.mark.parametrize("host", [b"localhost;reboot", b"$(reboot)", b"a' b", b"<i>reboot</i>", b""])
async def test_a_host_that_would_harm_a_command_line_is_not_shown(host):
    pages = DocumentPages()
    pages.publish(document_with({}, "/x"))
    request = Request({"type": "http", "scheme": "http", "headers": [(b"host", host)], "path": "/docs"})
    page = (await pages.html(request)).body.decode()
    assert "reboot" not in page
    assert "curl http://127.0.0.1:30000/x<" in page


async def test_refused_fields_stand_apart(suite):
    page = (await suite.http.get("/docs")).text
    chat = page.partition('<h3 id="ChatBody">')[2].partition("</section>")[0]
    offered, _, refused = chat.partition("<details>")
    shown, hidden = (re.findall(r"<tr><td><code>(\w+)", part) for part in (offered, refused))
    assert shown[:2] == ["model", "messages"]
    assert {"temperature", "tools", "user"} <= set(shown)
    assert {"lora_path", "guided_json", "audio"} <= set(hidden)
    assert not set(shown) & set(hidden)


async def test_every_link_on_the_page_leads_somewhere(suite):
    page = (await suite.http.get("/docs")).text
    wanted = set(re.findall(r'href="#([^"]*)"', page))
    assert len(wanted) > 40
    assert wanted <= set(re.findall(r'id="([^"]*)"', page))


def test_names_and_descriptions_are_text_and_never_markup():
    evil = "<script>alert(1)</script>"
    schema = {"description": evil, "properties": {evil: {"description": evil, "enum": [evil]}}}
    document = document_with({"Body": schema}, f"/{evil}", evil)
    page = DocsPage(document).html()
    assert "<script" not in page
    assert page.count("alert(1)") >= 5


SCALE = {"type": "number", "minimum": 0.0, "maximum": 2.0}
KEEP = {"type": "object", "properties": {"keep": {"enum": ["all"]}, "old": {"type": "null"}}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"anyOf": [SCALE, {"type": "null"}]}, "number (0 to 2)"),
        ({"type": "number", "exclusiveMinimum": 0.0, "maximum": 1.0}, "number (above 0, at most 1)"),
        ({"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1}, "integer (0 to 2<sup>31</sup>-1)"),
        ({"type": "string", "maxLength": 256}, "string (at most 256 characters)"),
        ({"enum": ["a", None]}, '<code>&quot;a&quot;</code>'),
        (
            {"type": "array", "items": {"$ref": "#/components/schemas/MessageBody"}, "minItems": 1},
            'list (at least 1) of <a href="#MessageBody">MessageBody</a>',
        ),
        (KEEP, "object: <code>keep</code> <code>&quot;all&quot;</code>"),
        ({"type": "array", "items": KEEP}, "list of object"),
        ({}, "any value"),
        ({"type": "null"}, "null"),
    ],
)  # fmt: skip
def test_types_are_said_in_words(schema, words):
    assert type_words(schema, fields=True) == words
