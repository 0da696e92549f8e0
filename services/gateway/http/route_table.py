"""All routes of the REST door."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.gateway.admission import Admission
from services.gateway.http import examples
from services.gateway.http.answers.keep_alive import KeepAlive
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.completions import CompletionBody
from services.gateway.http.bodies.generate import GenerateBody
from services.gateway.http.body import BodyReader
from services.gateway.http.ignored import IgnoredFields
from services.gateway.http.messages.body import CountBody, MessagesBody
from services.gateway.http.messages.endpoint import MessagesEndpoint
from services.gateway.http.messages.errors import MESSAGES
from services.gateway.http.messages.protocol import PATH as MESSAGES_PATH
from services.gateway.http.messages.shapes.errors import MessagesErrorAnswer
from services.gateway.http.messages.shapes.events import MessageEvent
from services.gateway.http.messages.shapes.message import (
    AssistantMessage,
    CountAnswer,
    MessagesModel,
    MessagesModels,
)
from services.gateway.http.operations import EVENTS, JSON, Operation
from services.gateway.http.pages.docs import DocumentPages
from services.gateway.http.pages.home import HomePage
from services.gateway.http.pages.metrics_page import MetricsPage
from services.gateway.http.post import BodyHandler, PostEndpoint
from services.gateway.http.routes.chat import ChatEndpoint
from services.gateway.http.routes.completions import CompletionEndpoint
from services.gateway.http.routes.generate import GenerateEndpoint
from services.gateway.http.routes.health import HealthPage
from services.gateway.http.routes.info import InfoPages
from services.gateway.http.routes.models import ModelPages
from services.gateway.http.routes.tokenize import DetokenizeBody, TokenizeBody, TokenizeEndpoint
from services.gateway.http.shapes.chat import ChatAnswer, ReasoningField
from services.gateway.http.shapes.chat_chunk import ChatChunk
from services.gateway.http.shapes.completion import CompletionAnswer
from services.gateway.http.shapes.errors import ErrorAnswer
from services.gateway.http.shapes.generate import GenerateAnswer
from services.gateway.http.shapes.server import (
    HealthAnswer,
    ModelAnswer,
    ModelInfo,
    ModelsAnswer,
    ServerInfo,
    TokenizerInfo,
)
from services.gateway.http.shapes.tokenize import DetokenizeAnswer, TokenizeAnswer
from services.gateway.pipeline.batch import BatchPipeline
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.prompt.tokenizing import Tokenizing
from services.gateway.readiness import Readiness
from services.gateway.request_log import RequestLog
from services.gateway.served_model import ServedModel
from services.gateway.workers.pool import WorkerPool

_TEXT, _HTML = "text/plain", "text/html"


@dataclass(frozen=True)
class DoorParts:
    """What the routes need of the gateway. `directory`: of the checkpoint or tokenizer, as configured;
    `ignored`: what becomes of unknown fields in agents' requests; `reasoning`: the name that reasoning has in
    answers; `asks_for_keys`: whether callers need API keys; `drops_billing`: as in MessagesEndpoint.
    """

    pipeline: Pipeline
    batches: BatchPipeline
    tokenizing: Tokenizing
    model: ServedModel
    pool: WorkerPool
    readiness: Readiness
    metrics: MetricsPage
    admission: Admission
    bodies: BodyReader
    keep_alive: KeepAlive
    requests: RequestLog
    ignored: IgnoredFields
    directory: str
    reasoning: ReasoningField = "reasoning_content"
    asks_for_keys: bool = False
    drops_billing: bool = True

    def post(
        self,
        path: str,
        answer: BodyHandler,
        body: Any,
        example: Mapping[str, Any],
        good: dict[str, Any],
        summary: str,
    ) -> Operation:
        """A route that takes a body."""
        endpoint = PostEndpoint(answer, self.admission, self.bodies, self.keep_alive, self.requests)
        return Operation(path, ("POST",), endpoint, summary, good, body, example)


def operations(parts: DoorParts, documents: DocumentPages) -> tuple[Operation, ...]:
    """Every route there is."""
    home = Operation("/", ("GET",), HomePage().show, "The workers and a chat, for people.", {_HTML: None})
    return (*_generating(parts), *_messages(parts), *_tokenizing(parts), *_describing(parts, documents), home)


def _generating(parts: DoorParts) -> Iterator[Operation]:
    yield parts.post(
        "/v1/chat/completions",
        ChatEndpoint(parts.pipeline, parts.model, parts.reasoning).answer,
        ChatBody,
        examples.CHAT,
        {JSON: ChatAnswer, EVENTS: ChatChunk},
        "Continue a conversation.",
    )
    yield parts.post(
        "/v1/completions",
        CompletionEndpoint(parts.batches, parts.model).answer,
        CompletionBody,
        examples.COMPLETION,
        {JSON: CompletionAnswer, EVENTS: CompletionAnswer},
        "Continue prompts as they are.",
    )
    one_or_more: Any = GenerateAnswer | list[GenerateAnswer]
    generate = parts.post(
        "/generate",
        GenerateEndpoint(parts.batches, parts.model).answer,
        GenerateBody,
        examples.GENERATE,
        {JSON: one_or_more, EVENTS: GenerateAnswer},
        "Continue prompts as they are, in SGLang's spelling; a stream's events are cumulative.",
    )
    yield replace(generate, methods=("POST", "PUT"))


def _messages(parts: DoorParts) -> Iterator[Operation]:
    endpoint = MessagesEndpoint(
        parts.pipeline, parts.tokenizing, parts.model, parts.ignored, drops_billing=parts.drops_billing
    )
    keep_alive = replace(parts.keep_alive, kind="chunk")  # the protocol has an event for that
    yield Operation(
        MESSAGES_PATH,
        ("POST",),
        PostEndpoint(endpoint.answer, parts.admission, parts.bodies, keep_alive, parts.requests, MESSAGES),
        "Continue a conversation, in Anthropic's spelling.",
        {JSON: AssistantMessage, EVENTS: MessageEvent},
        MessagesBody,
        examples.MESSAGE,
        failures=(MessagesErrorAnswer,),
        end_mark=False,
    )
    yield Operation(
        f"{MESSAGES_PATH}/count_tokens",
        ("POST",),
        PostEndpoint(
            endpoint.count,
            parts.admission,
            parts.bodies,
            keep_alive,
            parts.requests,
            MESSAGES,
            takes_slot=False,
        ),
        "How many tokens the prompt of such a conversation has.",
        {JSON: CountAnswer},
        CountBody,
        examples.COUNT,
        failures=(MessagesErrorAnswer,),
    )


def _tokenizing(parts: DoorParts) -> Iterator[Operation]:
    endpoint = TokenizeEndpoint(parts.tokenizing, parts.model.profile)
    for prefix in ("", "/v1"):
        yield parts.post(
            f"{prefix}/tokenize",
            endpoint.tokenize,
            TokenizeBody,
            examples.TOKENIZE,
            {JSON: TokenizeAnswer},
            "Token ids of a text, or of a chat body as a whole, which is then the rest of this body.",
        )
        yield parts.post(
            f"{prefix}/detokenize",
            endpoint.detokenize,
            DetokenizeBody,
            examples.DETOKENIZE,
            {JSON: DetokenizeAnswer},
            "The text of token ids.",
        )


def _describing(parts: DoorParts, documents: DocumentPages) -> Iterator[Operation]:
    models = ModelPages(parts.model, parts.pool)
    info = InfoPages(parts.model, parts.pool, parts.directory)
    health = HealthPage(parts.pool, parts.readiness, shows_workers=not parts.asks_for_keys)
    failures = (ErrorAnswer, MessagesErrorAnswer)
    yield Operation(
        "/v1/models",
        ("GET",),
        models.index,
        "What is served; in Anthropic's spelling where the request has the header anthropic-version.",
        {JSON: (ModelsAnswer, MessagesModels)},
        failures=failures,
    )
    yield Operation(
        "/v1/models/{name}",
        ("GET",),
        models.show,
        "One served name, slashes included; in Anthropic's spelling as above.",
        {JSON: (ModelAnswer, MessagesModel)},
        route="/v1/models/{name:path}",
        names=tuple(parts.model.names),
        failures=failures,
    )
    for path in ("/model_info", "/get_model_info"):
        yield _get(path, info.model, ModelInfo, "The model, in SGLang's spelling.")
    for path in ("/server_info", "/get_server_info"):
        yield _get(path, info.server, ServerInfo, "The model and the workers.")
    yield _get("/tokenizer_info", info.tokenizer, TokenizerInfo, "The tokenizer, in vLLM's spelling.")
    yield _get(
        "/health",
        health.live,
        HealthAnswer,
        "503 until text can be served for the first time and while stopping, else 200.",
    )
    yield _get("/ready", health.ready, HealthAnswer, "200 while text can be served, else 503.")
    yield Operation("/metrics", ("GET",), parts.metrics.show, "Prometheus' text format.", {_TEXT: None})
    yield Operation("/openapi.json", ("GET",), documents.json, "This description.", {JSON: dict[str, Any]})
    yield Operation("/docs", ("GET",), documents.html, "This description, for people.", {_HTML: None})


def _get(path: str, page: Any, answer: Any, summary: str) -> Operation:
    return Operation(path, ("GET",), page, summary, {JSON: answer})
