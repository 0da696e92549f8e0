"""ModelService: what is served."""

from __future__ import annotations

from perigee.v1 import models_pb2, models_pb2_grpc
from services.gateway.rpc.calls import Context
from services.gateway.served_model import ServedModel
from services.gateway.workers.pool import WorkerPool


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """One entry per served name."""

    def __init__(self, model: ServedModel, pool: WorkerPool) -> None:
        self._model = model
        self._pool = pool

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: Context
    ) -> models_pb2.ListModelsResponse:
        return models_pb2.ListModelsResponse(models=[self._entry(name) for name in self._model.names])

    async def GetModel(self, request: models_pb2.GetModelRequest, context: Context) -> models_pb2.Model:
        return self._entry(self._model.resolve(request.name, "name"))

    def _entry(self, name: str) -> models_pb2.Model:
        return models_pb2.Model(
            name=name,
            created=self._model.created,
            context_length=self._model.context(self._pool.context_length()),
            vocab_size=self._model.vocab_size,
            vision=self._model.vision,
        )
