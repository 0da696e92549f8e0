"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.answers.page import json_page
from services.gateway.http.shapes.server import ModelAnswer, ModelsAnswer
from services.gateway.served_model import ServedModel
from services.gateway.workers.pool import WorkerPool


class ModelPages:
    """Every served name is a model of its own, as OpenAI's clients expect."""

    def __init__(self, model: ServedModel, pool: WorkerPool) -> None:
        self._model = model
        self._pool = pool

    async def index(self, request: Request) -> Response:
        return json_page(ModelsAnswer("list", [self._entry(name) for name in self._model.names]))

    async def show(self, request: Request) -> Response:
        """Raises ModelNotFound. Names may hold slashes."""
        return json_page(self._entry(self._model.resolve(request.path_params["name"])))

    def _entry(self, name: str) -> ModelAnswer:
        return ModelAnswer(
            id=name,
            object="model",
            created=self._model.created,
            owned_by="perigee",
            root=self._model.names[0],
            max_model_len=self._model.context(self._pool.context_length()) or None,
        )
