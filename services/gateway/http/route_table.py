"""All routes of the REST door."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from services.gateway.http.answers.shapes.chat import ChatAnswer
from services.gateway.http.answers.shapes.chat_chunk import ChatChunk
from services.gateway.http.answers.shapes.completion import CompletionAnswer
from services.gateway.http.answers.shapes.generate import GenerateAnswer
from services.gateway.http.answers.shapes.server import (
    HealthAnswer,
    ModelAnswer,
    ModelInfo,
    ModelsAnswer,
    ServerInfo,
)
from services.gateway.http.answers.shapes.tokenize import DetokenizeAnswer, TokenizeAnswer
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.completions import CompletionBody
from services.gateway.http.bodies.generate import GenerateBody
from services.gateway.http.operations import EVENTS, JSON, Operation
from services.gateway.http.pages.docs import DocumentPages
from services.gateway.http.pages.home import HomePage
from services.gateway.http.pages.metrics_page import MetricsPage
from services.gateway.http.post import PostEndpoint
from services.gateway.http.routes.health import HealthPage
from services.gateway.http.routes.info import InfoPages
from services.gateway.http.routes.models import ModelPages
from services.gateway.http.routes.tokenize import DetokenizeBody, TokenizeBody

_TEXT, _HTML = "text/plain", "text/html"


@dataclass(frozen=True)
class DoorParts:
    """The endpoints of all routes."""

    chat: PostEndpoint
    completions: PostEndpoint
    generate: PostEndpoint
    tokenize: PostEndpoint
    detokenize: PostEndpoint
    models: ModelPages
    info: InfoPages
    health: HealthPage
    metrics: MetricsPage


def operations(parts: DoorParts, documents: DocumentPages) -> tuple[Operation, ...]:
    """Every route there is."""
    home = Operation("/", ("GET",), HomePage().show, "The workers and a chat, for people.", {_HTML: None})
    return (home, *_generating(parts), *_tokenizing(parts), *_describing(parts, documents))


def _generating(parts: DoorParts) -> Iterator[Operation]:
    chat = {JSON: ChatAnswer, EVENTS: ChatChunk}
    yield _post("/v1/chat/completions", parts.chat, ChatBody, chat, "Continue a conversation.")
    completion = {JSON: CompletionAnswer, EVENTS: CompletionAnswer}
    yield _post(
        "/v1/completions", parts.completions, CompletionBody, completion, "Continue prompts as they are."
    )
    one_or_more: Any = GenerateAnswer | list[GenerateAnswer]
    yield Operation(
        "/generate",
        ("POST", "PUT"),
        parts.generate,
        "Continue prompts as they are, in SGLang's spelling; a stream's events are cumulative.",
        {JSON: one_or_more, EVENTS: GenerateAnswer},
        GenerateBody,
    )


def _tokenizing(parts: DoorParts) -> Iterator[Operation]:
    for prefix in ("", "/v1"):
        yield _post(
            f"{prefix}/tokenize",
            parts.tokenize,
            TokenizeBody,
            {JSON: TokenizeAnswer},
            "Token ids of a text, or of a chat body as a whole, which is then the rest of this body.",
        )
        yield _post(
            f"{prefix}/detokenize",
            parts.detokenize,
            DetokenizeBody,
            {JSON: DetokenizeAnswer},
            "The text of token ids.",
        )


def _describing(parts: DoorParts, documents: DocumentPages) -> Iterator[Operation]:
    yield _get("/v1/models", parts.models.index, ModelsAnswer, "What is served.")
    yield Operation(
        "/v1/models/{name}",
        ("GET",),
        parts.models.show,
        "One served name, slashes included.",
        {JSON: ModelAnswer},
        route="/v1/models/{name:path}",
    )
    for path in ("/model_info", "/get_model_info"):
        yield _get(path, parts.info.model, ModelInfo, "The model, in SGLang's spelling.")
    for path in ("/server_info", "/get_server_info"):
        yield _get(path, parts.info.server, ServerInfo, "The model and the workers.")
    yield _get(
        "/health",
        parts.health.live,
        HealthAnswer,
        "503 until text can be served for the first time and while stopping, else 200.",
    )
    yield _get("/ready", parts.health.ready, HealthAnswer, "200 while text can be served, else 503.")
    yield Operation("/metrics", ("GET",), parts.metrics.show, "Prometheus' text format.", {_TEXT: None})
    yield Operation("/openapi.json", ("GET",), documents.json, "This description.", {JSON: dict[str, Any]})
    yield Operation("/docs", ("GET",), documents.html, "This description, for people.", {_HTML: None})


def _post(path: str, endpoint: PostEndpoint, body: Any, good: dict[str, Any], summary: str) -> Operation:
    return Operation(path, ("POST",), endpoint, summary, good, body)


def _get(path: str, page: Any, answer: Any, summary: str) -> Operation:
    return Operation(path, ("GET",), page, summary, {JSON: answer})
