"""GET /openapi.json, and GET /docs: the same for people, on one page that loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "code,pre{font:14px/1.4 monospace}pre{background:#f4f4f4;padding:1em;overflow:auto}"
    "b{display:inline-block;min-width:4em}"
)
# Nothing may be fetched or run, whatever a name or description holds.
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


class DocumentPages:
    """Both are made once, when `publish` gives them the document, which describes these two pages too."""

    def __init__(self) -> None:
        self._json, self._html = Response(), Response()

    def publish(self, document: Mapping[str, Any]) -> None:
        """`document`: OpenAPI's."""
        self._json = JSONResponse(document)
        self._html = HTMLResponse(_page(document), headers=_POLICY)

    async def json(self, request: Request) -> Response:
        return self._json

    async def html(self, request: Request) -> Response:
        return self._html


def _page(document: Mapping[str, Any]) -> str:
    info = document["info"]
    title = html.escape(f"{info['title']} {info['version']}")
    paths = "".join(
        f"<p><b>{method.upper()}</b> <code>{html.escape(path)}</code><br>{html.escape(item['summary'])}"
        f"{_linked(item)}</p>"
        for path, methods in document["paths"].items()
        for method, item in methods.items()
    )
    schemas = "".join(
        f'<h3 id="{name}">{name}</h3><p>{html.escape(schema.get("description", ""))}</p>'
        f"<pre>{html.escape(json.dumps(schema.get('properties', {}), indent=1))}</pre>"
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{html.escape(info['description'])}</p>"
        '<p>For programs: <a href="/openapi.json">/openapi.json</a></p>'
        f"{paths}<h2>Schemas</h2>{schemas}</html>"
    )


def _linked(item: Mapping[str, Any]) -> str:
    """Links to the schemas of body and answer."""
    bodies = item.get("requestBody", {}).get("content", {}).values()
    answers = item["responses"]["200"]["content"].values()
    names = dict.fromkeys(_names([each["schema"] for each in (*bodies, *answers)]))
    return "".join(f' <a href="#{name}">{name}</a>' for name in names)


def _names(node: Any) -> Iterator[str]:
    """The names of the schemas that a schema refers to."""
    if isinstance(node, list):
        for each in node:
            yield from _names(each)
    elif isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rpartition("/")[2]
        yield from _names(list(node.values()))
