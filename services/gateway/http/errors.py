"""Errors of the REST door, beyond the common table."""

from __future__ import annotations

import dataclasses

from services.common.errors import InvalidRequest, PerigeeError
from services.common.http_errors import HttpError, to_http


class BodyTooLarge(InvalidRequest):
    """The body is longer than this gateway takes: 413."""

    reason = "BODY_TOO_LARGE"


class BodyTooSlow(InvalidRequest):
    """The body did not arrive in time: 408."""

    reason = "BODY_TOO_SLOW"


def answer_of(error: PerigeeError) -> HttpError:
    """Status, headers and OpenAI error object."""
    answer = to_http(error)
    if isinstance(error, BodyTooLarge):
        return dataclasses.replace(answer, status=413)
    if isinstance(error, BodyTooSlow):
        return dataclasses.replace(answer, status=408, headers={"Connection": "close"})
    return answer


def envelope(message: str, code: str | None) -> dict[str, object]:
    """An OpenAI error object for unknown routes and methods."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
