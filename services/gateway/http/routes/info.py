"""GET /model_info and /server_info, in the spelling of SGLang's scripts, and vLLM's /tokenizer_info."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.answers.page import json_page
from services.gateway.http.shapes.server import ModelInfo, ServerInfo, TokenizerInfo, WorkerEntry
from services.gateway.served_model import ServedModel
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import WorkerPool


class InfoPages:
    """`directory`: of the checkpoint or tokenizer, as configured. Nothing secret is shown."""

    def __init__(self, model: ServedModel, pool: WorkerPool, directory: str) -> None:
        self._model = model
        self._pool = pool
        self._directory = directory

    async def model(self, request: Request) -> Response:
        """The served model."""
        return json_page(ModelInfo(**self._model_info()))

    async def server(self, request: Request) -> Response:
        """The served model and its workers. `internal_states` exists for SGLang's scripts and is empty."""
        workers = [_worker(link) for link in self._pool.links]
        more = ServerInfo(
            **self._model_info(), version=version("perigee"), internal_states=[{}], workers=workers
        )
        return json_page(more)

    async def tokenizer(self, request: Request) -> Response:
        """What clients that tokenize by /tokenize need to know beside it."""
        tokenizer = self._model.tokenizer
        ending = tokenizer.token_bytes(tokenizer.end_of_turn).decode()
        longest = self._model.context(self._pool.context_length()) or None
        return json_page(TokenizerInfo(type(tokenizer).__name__, ending, None, longest))

    def _model_info(self) -> dict[str, Any]:
        """The fields that both answers have."""
        return {
            "model_path": self._directory,
            "tokenizer_path": self._directory,
            "served_model_name": self._model.names[0],
            "model_profile": self._model.profile.name,
            "is_generation": bool(self._pool.configured),
            "has_image_understanding": self._model.vision,
            "max_model_len": self._model.context(self._pool.context_length()) or None,
            "vocab_size": self._model.vocab_size,
        }


def _worker(link: WorkerLink) -> WorkerEntry:
    entry = WorkerEntry(link.role_name, link.address, link.state)
    if link.load is not None:
        entry.running, entry.waiting = link.load.running, link.load.waiting
        entry.free_pages = link.load.pages.free
    return entry
