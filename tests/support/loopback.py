"""A decode worker and a gateway's session with it in one process: real engine, real messages, no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from types import SimpleNamespace

import grpc

from perigee.v1 import decode_pb2
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.engine import DecodeEngine
from services.decode.limits import DecodeLimits
from services.decode.server import DecodeServicer
from services.decode.token_stepper import SingleTokenStepper
from services.engine.kv_cache.page_manager import PageManager
from services.engine.sampling.sampler import Sampler
from services.engine.serving.loop import EngineLoop
from services.gateway.workers.circuit import Circuit
from services.gateway.workers.session import DecodeSession
from tests.support.babbler import VOCAB, Babbler, LateBabbler
from tests.support.decode_bench import MakeStepper, RecordedIO
from tests.support.fake_runner import fake_pages
from tests.support.waiting import let_tasks_run

CONTEXT = 512


class LoopbackCall:
    """Stands in for grpc.aio's call of `Session`: a servicer of this process answers. Serialises every
    message.
    """

    def __init__(self, servicer: DecodeServicer, requests: AsyncIterator[decode_pb2.SessionRequest]) -> None:
        self._responses = servicer.Session(self._copied(requests), None)
        self._reading: asyncio.Task | None = None

    async def read(self):
        try:
            response = await anext(self._responses)
        except StopAsyncIteration:
            return grpc.aio.EOF
        return decode_pb2.SessionResponse.FromString(response.SerializeToString())

    def cancel(self) -> None:
        return

    @staticmethod
    async def _copied(requests):
        async for request in requests:
            yield decode_pb2.SessionRequest.FromString(request.SerializeToString())


class LoopbackWorker:
    """An engine, its servicer and the session of one gateway. `open` and `close` on an event loop."""

    def __init__(
        self,
        address: str,
        constraints,
        *,
        num_pages: int = 64,
        ahead: bool = False,
        runner: type[Babbler] | None = None,
        vocab_size: int = VOCAB,
        engine_options: Mapping[str, object] | None = None,
        session_options: Mapping[str, object] | None = None,
        by_hand: bool = False,
        stepper: MakeStepper | None = None,
        **limits: object,
    ) -> None:
        """`constraints`: a ConstraintMaker; `limits`: values of DecodeLimits that differ from the defaults;
        `by_hand`: the engine makes a step only when `step` is called; `stepper`: makes another one than
        `ahead` says.
        """
        pages = fake_pages(num_pages)
        self._masks = MaskThreads()
        defaults = {
            "max_running": 16, "max_waiting": 64, "chunk_tokens": 128, "local_prefill_tokens": CONTEXT,
            "headroom_pages": 0, "context_length": CONTEXT, "lease_s": 60.0,
        }  # fmt: skip
        make = runner or (LateBabbler if ahead else Babbler)
        model = make(pages)
        self.engine = DecodeEngine(
            (stepper or partial(SingleTokenStepper, overlaps=ahead))(model, Sampler(vocab_size), self._masks),
            PageManager(num_pages, model), self._masks, DecodeLimits(**(defaults | limits)), RecordedIO(),
            lambda serving: None, **(engine_options or {}),
        )  # fmt: skip
        self.failures: list[BaseException] = []
        step = (lambda: False) if by_hand else self.engine.step
        self.loop = EngineLoop(address, step, self.failures.append, idle_wait_s=0.005)
        servicer = DecodeServicer(self.engine, self.loop, constraints, vocab_size, CONTEXT, 3600.0)
        channel = SimpleNamespace(
            stream_stream=lambda *_, **__: lambda requests: LoopbackCall(servicer, requests)
        )
        up = asyncio.Event()
        up.set()
        self.link = SimpleNamespace(
            address=address,
            channel=channel,
            up=up,
            note_sent=lambda: None,
            note_ended=lambda: None,
            circuit=Circuit(),
        )
        self.session = DecodeSession(self.link, iter(range(1, 1 << 62)), **(session_options or {}))

    async def open(self) -> None:
        self.loop.start()
        self._running = asyncio.create_task(self.session.run())
        while not self.session.connected:
            await let_tasks_run(1)

    async def step(self) -> None:
        """Makes one step, on the engine's thread, after all messages so far."""
        await asyncio.wrap_future(self.loop.call(self.engine.step))

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self.loop.stop()
        self._masks.close()
        assert self.failures == []


class LoopbackRouter:
    """Takes the workers in turn; skips one that must be avoided, if there is another."""

    def __init__(self, workers: list[LoopbackWorker], session_of: Callable[[LoopbackWorker], object]) -> None:
        """`session_of`: returns the session for a worker's submits."""
        self._workers = workers
        self._session_of = session_of
        self._turn = 0

    def require(self, *, images: bool) -> None:
        return

    def last_restart_s(self, *, images: bool) -> float:
        return 0.0

    def decode_away_since(self) -> float | None:
        return None

    def decode_addresses(self) -> list[str]:
        return [worker.link.address for worker in self._workers]

    def prefill(self, pages, worker) -> list[str]:
        return []

    def decode(self, pages, avoid=()):
        self._turn += 1
        order = self._workers[self._turn % len(self._workers) :] + self._workers
        worker = next((each for each in order if each.link.address not in avoid), order[0])
        return SimpleNamespace(link=worker.link, session=self._session_of(worker))
