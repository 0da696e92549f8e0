"""How a route's protocol writes failures and events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.common.errors import PerigeeError
from services.gateway.http.errors import HttpError, to_http


@dataclass(frozen=True)
class ReplyForm:
    """`failure`: the answer for an error and the name of the request; in a stream that has begun, its body is
    the last event. `names_events`: whether an `event:` line before each event repeats its `type`.
    """

    failure: Callable[[PerigeeError, str], HttpError]
    names_events: bool


OPENAI = ReplyForm(to_http, names_events=False)
"""OpenAI's and the engines' routes."""
