"""Tokenizing for its own sake: a prompt's ids and text, and text from ids. No worker takes part."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from services.common.errors import DeadlineExceeded, InvalidRequest
from services.gateway.media.remote_media import RemoteMedia
from services.gateway.pipeline.prompt.rendering import Renderer
from services.gateway.pipeline.request import AnyPrompt
from services.gateway.served_model import ServedModel
from services.gateway.workers.pool import WorkerPool

# The most bytes of text or ids that one request may bring: bounds its time (seconds) and memory (at worst an
# id per byte). More than ten times what the longest context takes of ordinary text.
MAX_BYTES = 4 << 20
# Threads of its own, few of them: however many texts are to be encoded, chats find theirs free.
_THREADS = 2


@dataclass(frozen=True)
class Tokenized:
    """`token_ids` with every medium's pads; `text`: what they spell, with one pad per medium."""

    token_ids: tuple[int, ...]
    text: str


class Tokenizing:
    """Renders as a generation would, by the same Renderer: the number of ids is its `prompt_tokens`.

    Images are counted from their headers, whether or not there is an encoder. The context is no limit here.
    """

    def __init__(self, model: ServedModel, pool: WorkerPool, remote: RemoteMedia, timeout_s: float) -> None:
        self._model = model
        self._pool = pool
        self._executor = ThreadPoolExecutor(_THREADS, "tokenizing")
        self._renderer = Renderer(model, remote, self._executor)
        self._timeout_s = timeout_s

    @property
    def context_length(self) -> int:
        """Longest prompt plus completion, tokens; 0: not known."""
        return self._model.context(self._pool.context_length())

    async def tokenize(self, model: str, prompt: AnyPrompt, num_bytes: int, param: str) -> Tokenized:
        """`num_bytes`: size of the text as it came; `param`: the field the prompt came in.

        Raises ModelNotFound, the InvalidRequest family, or DeadlineExceeded.
        """
        self._model.resolve(model)
        _check_size(num_bytes, param)
        async with self._deadline():
            return Tokenized(*await self._renderer.tokenize(prompt))

    async def detokenize(
        self, model: str, token_ids: Sequence[int], num_bytes: int, param: str, skip_special: bool
    ) -> str:
        """The text, invalid UTF-8 replaced. Raises as `tokenize`; an id outside the vocabulary is named."""
        self._model.resolve(model)
        _check_size(num_bytes, param)
        loop = asyncio.get_running_loop()
        async with self._deadline():
            return await loop.run_in_executor(self._executor, self._decode, token_ids, param, skip_special)

    def close(self) -> None:
        """Drops what has not begun; what has ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded(f"the request did not finish within {self._timeout_s:g} s") from error

    def _decode(self, token_ids: Sequence[int], param: str, skip_special: bool) -> str:
        tokenizer = self._model.tokenizer
        for index, token_id in enumerate(token_ids):
            if not 0 <= token_id < tokenizer.vocab_size:
                raise InvalidRequest(
                    f"{param}[{index}] is {token_id}; the vocabulary has {tokenizer.vocab_size} entries",
                    f"{param}[{index}]",
                )
        return tokenizer.decode(token_ids, skip_flagged=skip_special)


def _check_size(num_bytes: int, param: str) -> None:
    if num_bytes > MAX_BYTES:
        raise InvalidRequest(
            f"the request has {num_bytes} bytes beside media; at most {MAX_BYTES} are tokenized", param
        )
