"""The REST operations as data: routes and OpenAPI description are built from the same list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route

from services.gateway.http.shapes.errors import ErrorAnswer

JSON = "application/json"
EVENTS = "text/event-stream"


@dataclass(frozen=True)
class Operation:
    """One path. `endpoint`: an ASGI application, or a function of a request. `body`: the JSON body's schema;
    `example`: one such body, without the model's name.

    `answers`: by media type, the schema of a good answer or an event, or several schemas; None: text.
    `failures`: the schemas of its failures; `end_mark`: whether its streams end with OpenAI's mark.
    `path`: as OpenAPI spells it; `route`: as Starlette does, where that differs. `names`: what may stand for
    the path's parameter.
    """

    path: str
    methods: tuple[str, ...]
    endpoint: Any
    summary: str
    answers: Mapping[str, Any]
    body: Any = None
    example: Mapping[str, Any] | None = None
    route: str = ""
    names: tuple[str, ...] = ()
    failures: tuple[Any, ...] = (ErrorAnswer,)
    end_mark: bool = True

    def as_route(self) -> Route:
        return Route(self.route or self.path, self.endpoint, methods=list(self.methods))
