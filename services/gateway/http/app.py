"""The REST application: its routes, and answers to unknown ones."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.errors import PerigeeError
from services.gateway.access.gatekeeper import Gatekeeper
from services.gateway.http.error_page import error_page, refusal_page
from services.gateway.http.guards.cors import Cors
from services.gateway.http.guards.host_check import HostCheck
from services.gateway.http.guards.key_check import KeyCheck
from services.gateway.http.pages.docs import DocumentPages
from services.gateway.http.pages.openapi import describe
from services.gateway.http.post import PostEndpoint
from services.gateway.http.request_names import named
from services.gateway.http.route_table import DoorParts, operations


class App:
    """The ASGI application.

    Every answer carries its request's id in a header. Before any route, `hosts` checks the request's Host,
    `cors` answers a browser's preflight requests, and then the API key is checked.
    """

    def __init__(self, parts: DoorParts, hosts: HostCheck, cors: Cors, gatekeeper: Gatekeeper) -> None:
        self._hosts = hosts
        self._cors = cors
        documents = DocumentPages()
        offered = operations(parts, documents)
        documents.publish(describe(offered, parts.model.vocab_size, parts.model.names[0]))
        self._keys = KeyCheck(gatekeeper, parts.admission, offered)
        # POST endpoints handle their own errors and bypass Starlette, which would wrap every event.
        self._posts: dict[str, ASGIApp] = {
            operation.path: operation.endpoint
            for operation in offered
            if isinstance(operation.endpoint, PostEndpoint)
        }
        self._app = Starlette(
            routes=[operation.as_route() for operation in offered],
            exception_handlers={
                PerigeeError: _perigee_error,
                HTTPException: _http_exception,
                Exception: _defect,
            },
        )

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes."""
        return self._app.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = self._cors.answering(scope, named(scope, send))
        app: ASGIApp | None = self._refusal(scope) or self._cors.preflight(scope) or self._keys.refusal(scope)
        if app is None:
            app = (self._posts.get(scope["path"]) if scope["method"] == "POST" else None) or self._app
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        refusal = self._hosts.refusal(scope)
        return None if refusal is None else refusal_page(scope, 421, refusal, "host_not_allowed")


async def _perigee_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PerigeeError)
    return error_page(request.scope, error)


async def _http_exception(request: Request, error: Exception) -> Response:
    """Unknown routes and methods."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    code = {404: "unknown_route", 405: "method_not_allowed"}.get(error.status_code)
    return refusal_page(request.scope, error.status_code, message, code, error.headers)


async def _defect(request: Request, error: Exception) -> Response:
    return error_page(request.scope, error)
