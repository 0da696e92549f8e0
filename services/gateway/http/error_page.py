"""Failures of requests that reach no POST route, in the form of the protocol they speak."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Scope

from services.gateway.http.answers.page import json_page
from services.gateway.http.errors import bad_request, to_http
from services.gateway.http.messages.errors import messages_error, messages_refusal
from services.gateway.http.messages.protocol import speaks_messages
from services.gateway.http.request_names import name_of


def error_page(scope: Scope, error: BaseException) -> Response:
    """The answer for an error."""
    answer = messages_error(error, name_of(scope)) if speaks_messages(scope) else to_http(error)
    return json_page(answer.body, answer.status, answer.headers)


def refusal_page(
    scope: Scope, status: int, message: str, code: str | None, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to what reaches no route. `code`: OpenAI's, which Messages has not."""
    if speaks_messages(scope):
        return json_page(messages_refusal(status, message, name_of(scope)), status, headers)
    return json_page(bad_request(message, code), status, headers)
