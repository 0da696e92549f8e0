"""GET /openapi.json, and GET /docs: the same for people, on one page that loads nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from services.gateway.http.pages.docs_page import ADDRESS, DocsPage

# Nothing may be fetched or run, whatever a name or description holds.
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
# What can stand in a command line as it is.
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?")


class DocumentPages:
    """Both are made once, when `publish` gives them the document, which describes these two pages too."""

    def __init__(self) -> None:
        self._json, self._html = Response(), ""

    def publish(self, document: Mapping[str, Any]) -> None:
        """`document`: OpenAPI's."""
        self._json = JSONResponse(document)
        self._html = DocsPage(document).html()

    async def json(self, request: Request) -> Response:
        return self._json

    async def html(self, request: Request) -> Response:
        """The examples name the host by which this request came."""
        host = request.headers.get("host", "")
        page = self._html
        if _HOST.fullmatch(host):
            page = page.replace(ADDRESS, f"{request.url.scheme}://{host}")
        return HTMLResponse(page, headers=_POLICY)
