"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.answers.page import json_page
from services.gateway.http.messages.models import model_entry, model_list
from services.gateway.http.messages.protocol import names_version
from services.gateway.http.shapes.server import ModelAnswer, ModelsAnswer
from services.gateway.served_model import ServedModel
from services.gateway.workers.pool import WorkerPool


class ModelPages:
    """Every served name is a model of its own, as OpenAI's clients expect. To requests with the header
    `anthropic-version` the answers have Anthropic's form.
    """

    def __init__(self, model: ServedModel, pool: WorkerPool) -> None:
        self._model = model
        self._pool = pool

    async def index(self, request: Request) -> Response:
        if names_version(request.headers.raw):
            return json_page(model_list(self._model.names, self._model.created))
        return json_page(ModelsAnswer("list", [self._entry(name) for name in self._model.names], []))

    async def show(self, request: Request) -> Response:
        """Raises ModelNotFound. Names may hold slashes."""
        name = self._model.resolve(request.path_params["name"])
        if names_version(request.headers.raw):
            return json_page(model_entry(name, self._model.created))
        return json_page(self._entry(name))

    def _entry(self, name: str) -> ModelAnswer:
        return ModelAnswer(
            id=name,
            object="model",
            created=self._model.created,
            owned_by="perigee",
            root=self._model.names[0],
            max_model_len=self._model.context(self._pool.context_length()) or None,
        )
