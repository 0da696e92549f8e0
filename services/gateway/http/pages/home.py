"""GET /: the state of the workers and a chat, on one static page that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_PAGE = Path(__file__).with_name("home.html")


class HomePage:
    """Made once. Only the page's own script and style may run, and only this door may be asked."""

    def __init__(self) -> None:
        page = _PAGE.read_text(encoding="utf-8")
        policy = (
            f"default-src 'none'; script-src {_hash_of('script', page)}; style-src {_hash_of('style', page)};"
            " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self._answer = HTMLResponse(page, headers={"Content-Security-Policy": policy})

    async def show(self, request: Request) -> Response:
        return self._answer


def _hash_of(tag: str, page: str) -> str:
    """The source expression that allows the page's one inline element `tag`."""
    [text] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
