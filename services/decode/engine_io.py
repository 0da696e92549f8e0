"""The engine's I/O on the event loop."""

from __future__ import annotations

from services.common.errors import PerigeeError
from services.decode.engine import DecodeEngine
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.prompts.remote_prefill import RemotePrefill
from services.decode.request import Prompt
from services.engine.serving.loop import EngineLoop
from services.engine.serving.named_tasks import NamedTasks
from services.engine.serving.text_worker import TextWorker


class DecodeIO:
    """Runs the engine's I/O, page fetches and embedding reads, on the event loop; an EngineIO. Construct it
    there.
    """

    def __init__(self, worker: TextWorker, silence_s: float) -> None:
        self._worker = worker
        self._silence_s = silence_s
        self._media: NamedTasks[Prompt, tuple[int, ...]] = NamedTasks(self._fetch_media, lambda prompt: None)

    def connect(self, engine: DecodeEngine, loop: EngineLoop) -> None:
        """Sets the engine that gets the results. Call once, before its loop starts."""
        self._engine = engine
        self._loop = loop

        def on_admitted(prompt: Prompt) -> None:
            loop.post(lambda: engine.fetch_admitted(prompt))

        def on_end(prompt: Prompt, result: FetchResult) -> None:
            loop.post(lambda: engine.fetch_ended(prompt, result))

        def on_settled(pages: tuple[int, ...]) -> None:
            loop.post(lambda: engine.pages_settled(pages))

        self._remote = RemotePrefill(
            self._worker.peers,
            self._worker.transfer,
            self._worker.config.text.num_hidden_layers,
            self._silence_s,
            not self._worker.kv_pages.is_cuda,
            on_admitted,
            on_end,
            on_settled,
        )

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        self._remote.start(prompt, order)

    def stop_fetch(self, prompt: Prompt) -> None:
        self._remote.stop(prompt)

    def start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        self._media.start(prompt, indices)

    def stop_media(self, prompt: Prompt) -> None:
        self._media.stop(prompt)

    async def _fetch_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        try:
            embeddings = await self._worker.embeddings.fetch_all(prompt.request.media, indices)
        except PerigeeError as error:
            failure = error
            self._loop.post(lambda: self._engine.media_failed(prompt, failure))
            return
        self._loop.post(lambda: self._engine.media_arrived(prompt, embeddings))
