"""Answers as Starlette's responses, for pages that need no stream."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from services.gateway.http.shapes.base import AnswerShape, encode


def json_page(answer: AnswerShape, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The answer as JSON."""
    return Response(encode(answer), status, headers, "application/json")
