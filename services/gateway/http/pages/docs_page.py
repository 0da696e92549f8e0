"""OpenAPI's document as one page of HTML, which loads nothing and runs nothing."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.gateway.http.operations import EVENTS, JSON
from services.gateway.http.pages.limits import REFUSED
from services.gateway.http.pages.schema_words import type_words, values_words

ADDRESS = "http://127.0.0.1:30000"
"""The address in the examples; DocumentPages puts that of the reader's own request in its place."""
_STYLE = Path(__file__).with_name("docs.css")
_QUOTED = re.compile(r"`([^`]+)`")


class DocsPage:
    """Makes the page of one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._info = document["info"]
        self._schemas: Mapping[str, Mapping[str, Any]] = document["components"]["schemas"]
        self._operations = [
            (method.upper(), path, item)
            for path, methods in document["paths"].items()
            for method, item in methods.items()
        ]
        self._shown: set[str] = set()

    def html(self) -> str:
        """The whole page."""
        title = html.escape(f"{self._info['title']} {self._info['version']}")
        routes = "".join(self._route(*operation) for operation in self._operations)
        # Bodies stand at their routes.
        others = [name for name in self._schemas if name not in self._shown]
        schemas = "".join(map(self._schema, others))
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}: REST</title>'
            '<meta name="viewport" content="width=device-width">'
            f"<style>{_STYLE.read_text(encoding='utf-8')}</style>{self._contents()}<main><h1>{title}</h1>"
            f"<p>{_prose(self._info['description'])}</p>"
            '<p>For programs: <a href="/openapi.json">/openapi.json</a>. '
            'A chat in the browser: <a href="/">/</a>.</p>'
            f"{routes}<h2>Schemas</h2>{schemas}</main></html>"
        )

    def _contents(self) -> str:
        links = "".join(
            f'<a href="#{_anchor(method, path)}"><b>{method}</b>{html.escape(path)}</a>'
            for method, path, _ in self._operations
        )
        schemas = "".join(f'<a href="#{name}">{name}</a>' for name in self._schemas)
        return f"<nav>{links}<details><summary>Schemas</summary>{schemas}</details></nav>"

    def _route(self, method: str, path: str, item: Mapping[str, Any]) -> str:
        bodies = item.get("requestBody", {}).get("content", {})
        answers = item["responses"]["200"]["content"]
        parts = [
            f'<section><h2 id="{_anchor(method, path)}"><b>{method}</b> <code>{html.escape(path)}</code>',
            "</h2>",
            f"<p>{_prose(item['summary'])}</p>",
            f"<pre>{html.escape(_curl(method, path, item, bodies))}</pre>",
        ]
        parts += [f"<p>Body: {type_words(each['schema'])}</p>" for each in bodies.values()]
        parts += [f"<p>Answer: {_answer(kind, each['schema'])}</p>" for kind, each in answers.items()]
        for each in bodies.values():
            name = each["schema"]["$ref"].rpartition("/")[2]
            if name not in self._shown:
                self._shown.add(name)
                parts.append(self._schema(name))
        return "".join(parts) + "</section>"

    def _schema(self, name: str) -> str:
        schema = self._schemas[name]
        return (
            f'<h3 id="{name}">{name}</h3><p>{_prose(schema.get("description", ""))}</p>{self._fields(name)}'
        )

    def _fields(self, name: str) -> str:
        """The table of a schema's fields, and apart from it the refused ones."""
        schema = self._schemas[name]
        required = schema.get("required", ())
        fields = schema.get("properties", {}).items()
        offered = "".join(
            _row(field, node, field in required) for field, node in fields if not node.get(REFUSED)
        )
        refused = [(field, node) for field, node in fields if node.get(REFUSED)]
        table = f"<table><tr><th>field<th>value<th>meaning{offered}</table>"
        if not refused:
            return table
        rows = "".join(
            f"<tr><td><code>{html.escape(field)}</code><td>{values_words(node['enum'])}"
            for field, node in refused
        )
        return (
            f"{table}<details><summary>{len(refused)} more fields that clients of OpenAI, SGLang or vLLM know"
            " are not supported: a value that would change the answer is refused with 400</summary>"
            f"<table><tr><th>field<th>values that are taken{rows}</table></details>"
        )


def _row(field: str, node: Mapping[str, Any], required: bool) -> str:
    must = ' <span class="must">required</span>' if required else ""
    return (
        f"<tr><td><code>{html.escape(field)}</code>{must}<td>{type_words(node, fields=True)}"
        f"<td>{_prose(node.get('description', ''))}"
    )


def _answer(kind: str, schema: Mapping[str, Any]) -> str:
    if kind != EVENTS:
        return type_words(schema) if kind == JSON else html.escape(kind)
    data = schema["properties"]["data"]
    data = data.get("anyOf", [data])[-1]  # behind the mark of the end, if there is one
    return f"with <code>stream</code>, events of {type_words(data['contentSchema'])}"


def _curl(method: str, path: str, item: Mapping[str, Any], bodies: Mapping[str, Any]) -> str:
    """A command line that works as it is."""
    for parameter in item["parameters"]:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["enum"][0])
    chosen = {"GET": "", "POST": ""}.get(method, f"-X {method} ")
    command = f"curl {chosen}{ADDRESS}{path}"
    for kind, each in bodies.items():
        body = json.dumps(each["example"], ensure_ascii=False, indent=2).replace("'", "'\\''")
        command += f" -H 'Content-Type: {kind}' -d '{body}'"
    return command


def _anchor(method: str, path: str) -> str:
    return html.escape(f"{method} {path}".replace(" ", "-"))


def _prose(text: str) -> str:
    """Escaped, with what stands in backquotes as code."""
    return _QUOTED.sub(r"<code>\1</code>", html.escape(text))
