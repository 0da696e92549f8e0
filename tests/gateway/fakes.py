"""Workers that speak the real protos over real sockets and answer from a script."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc
from PIL import Image

from perigee.v1 import (
    decode_pb2,
    decode_pb2_grpc,
    sampling_pb2,
    scores_pb2,
    vision_pb2,
    vision_pb2_grpc,
    worker_pb2,
    worker_pb2_grpc,
)
from services.common.errors import DeadlineExceeded, PerigeeError
from services.common.media.image_file import image_hash, shown_size
from services.common.media.video_file import VideoLimits, read_header
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.status import to_status
from services.families.kimi.media import image_grid
from services.families.kimi.video import video_chunks
from services.families.media import chunk_hash
from tests.support.endpoints import ENDPOINTS
from tests.support.responses import response_of
from tests.support.waiting import until

STOP = sampling_pb2.FINISH_REASON_STOP
LENGTH = sampling_pb2.FINISH_REASON_LENGTH


class FakeWorker(worker_pb2_grpc.WorkerServiceServicer):
    """Identity and load, settable by the test."""

    def __init__(self, role: int, context_length: int = 0, metrics_port: int = 0) -> None:
        model = worker_pb2.ModelIdentity(name="fake", context_length=context_length)
        self.info = worker_pb2.WorkerInfo(
            role=role, incarnation=f"fake-{role}", model=model, metrics_port=metrics_port
        )
        self.load = worker_pb2.LoadReport(pages=worker_pb2.PageCounts(free=100))
        self.silent = False
        self.flushed = 0
        self.checks: list[worker_pb2.CheckTransferRequest] = []
        self.check_fails: PerigeeError | None = None
        self.levels: list[str] = []
        self.level_fails: str | None = None

    async def GetInfo(self, request, context):
        return self.info

    async def WatchLoad(self, request, context):
        last, due = None, 0.0
        while True:
            if self.silent:
                return
            if self.load != last or time.monotonic() >= due:
                due = time.monotonic() + 1.0
                last = worker_pb2.LoadReport()
                last.CopyFrom(self.load)
                yield last
            await asyncio.sleep(0.02)  # how often a worker looks at its load

    async def Flush(self, request, context):
        self.flushed += 1
        return worker_pb2.FlushResponse(pages=3, embeddings=1)

    async def Drain(self, request, context):
        self.load.draining = True
        return worker_pb2.DrainResponse(outstanding=2)

    async def SetLogLevel(self, request, context):
        if self.level_fails is not None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, self.level_fails)
        self.levels.append(request.level)
        return worker_pb2.SetLogLevelResponse()

    async def Undrain(self, request, context):
        self.load.draining = False
        return worker_pb2.UndrainResponse()

    async def CheckTransfer(self, request, context):
        self.checks.append(request)
        if self.check_fails is not None:
            status = to_status(self.check_fails)
            await context.abort(status.code, status.details, status.trailing_metadata)
        path = worker_pb2.TransportReport(transport="cma", gigabytes_per_second=9.5)
        return worker_pb2.CheckTransferResponse(
            incarnation="owner-1", transport=path, bytes=3 << 20, crc32=0xABCD, seconds=0.25
        )


Script = Callable[[decode_pb2.Submit, int], Sequence[int]]


@dataclass
class FakeDecode(decode_pb2_grpc.DecodeServiceServicer):
    """Plays `script(submit, choice)` token by token. `admit`: until set, submits wait as in a queue.

    A choice ends with STOP where its script ends in one of the submit's stop ids, else with LENGTH.
    max_tokens cuts it.
    """

    script: Script
    step_s: float = 0.0
    tokens_per_delta: int = 1
    cached_tokens: int = 0
    cached_tokens_resumed: int | None = None
    """What a submit that continues another worker's output reports instead."""
    prefill_address: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    """Fields of RequestStats: how long the stages before the first token took."""
    refuse: decode_pb2.RequestError | None = None
    refusals: int = 1_000_000
    fail_after: int | None = None
    deaths: int = 1_000_000
    admit: asyncio.Event = field(default_factory=asyncio.Event)
    accepts: bool = True
    """Whether a submit that waits is accepted; one that is refused is not."""
    submits: list[decode_pb2.Submit] = field(default_factory=list)
    cancels: list[int] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    knows_scoring: bool = True
    """Whether it scores prompts: a message for each token."""
    die_at_score: int | None = None
    """So many scores are sent before it dies."""
    sent: int = 0
    yielded: int = 0
    read: Callable[[], int] | None = None
    """How many responses the gateway has read. A death waits for all of them: gRPC may drop others."""
    _sessions: list[asyncio.Queue] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admit.set()

    async def Session(self, request_iterator, context):
        outbox: asyncio.Queue = asyncio.Queue()
        self._sessions.append(outbox)
        reader = asyncio.create_task(self._read(request_iterator, outbox))
        try:
            while (response := await outbox.get()) is not None:
                self.yielded += 1
                yield response
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the worker died")
        finally:
            reader.cancel()
            self._sessions.remove(outbox)

    @property
    def has_session(self) -> bool:
        """Whether a gateway has a session open."""
        return bool(self._sessions)

    def die(self) -> None:
        """Breaks every session."""
        for outbox in self._sessions:
            outbox.put_nowait(None)

    async def _read(self, requests: AsyncIterator[decode_pb2.SessionRequest], outbox: asyncio.Queue) -> None:
        playing: dict[int, asyncio.Task] = {}
        async for message in requests:
            for submit in message.submits:
                self.submits.append(submit)
                playing[submit.handle] = asyncio.create_task(self._play(submit, outbox))
            for cancel in message.cancels:
                self.cancels.append(cancel.handle)
                self.cancelled.set()
                task = playing.get(cancel.handle)
                if task is not None:
                    task.cancel()

    async def _play(self, submit: decode_pb2.Submit, outbox: asyncio.Queue) -> None:
        if self.accepts and not (self.refuse is not None and self.refusals):
            outbox.put_nowait(decode_pb2.SessionResponse(accepted_handles=[submit.handle]))
        await self.admit.wait()
        if self.refuse is not None and self.refusals:
            self.refusals -= 1
            error = decode_pb2.SequenceDelta(
                handle=submit.handle, finish_reason=sampling_pb2.FINISH_REASON_ERROR, error=self.refuse
            )
            outbox.put_nowait(decode_pb2.SessionResponse(deltas=[error]))
            return
        for number, scores in enumerate(self._scores(submit)):
            if number == self.die_at_score and self.deaths:
                self.deaths -= 1
                await self._all_read(outbox)
                self.die()
                return
            outbox.put_nowait(decode_pb2.SessionResponse(scores=scores))
        first = submit.first_choice
        plays = [self._deltas(submit, choice) for choice in range(first, first + submit.sampling.n)]
        for step in range(max(len(play) for play in plays)):
            if self.fail_after is not None and self.sent >= self.fail_after and self.deaths:
                self.deaths -= 1
                await self._all_read(outbox)
                self.die()
                return
            deltas = [play[step] for play in plays if step < len(play)]
            outbox.put_nowait(response_of(deltas))
            self.sent += 1
            await asyncio.sleep(self.step_s)  # the pace of an engine

    async def _all_read(self, outbox: asyncio.Queue) -> None:
        if self.read is not None:
            await until(lambda: outbox.empty() and self.read() >= self.yielded)

    def _scores(self, submit: decode_pb2.Submit) -> Iterator[decode_pb2.RequestScores]:
        """Token t has log-probability -t / 8 and rank t; the likeliest are the ids before it."""
        if not self.knows_scoring or not submit.HasField("scoring"):
            return
        for place in range(submit.scoring.first_token, len(submit.prompt_token_ids)):
            token, tops = submit.prompt_token_ids[place], range(submit.scoring.top)
            scores = scores_pb2.PromptScores(
                first_token=place,
                logprobs=[-place / 8],
                ranks=[place],
                top_ids=[max(0, token - number) for number in tops],
                top_logprobs=[-place / 16 - number for number in tops],
            )
            yield decode_pb2.RequestScores(handle=submit.handle, scores=scores)

    def _deltas(self, submit: decode_pb2.Submit, choice: int) -> list[decode_pb2.SequenceDelta]:
        script = list(self.script(submit, choice))
        done = len(submit.output_token_ids)
        assert list(submit.output_token_ids) == script[:done], "resumed with other tokens than it was given"
        tokens = script[done : submit.sampling.max_tokens]
        stopped = bool(tokens) and tokens[-1] in submit.sampling.stop_token_ids
        size = self.tokens_per_delta
        deltas = []
        for start in range(0, len(tokens), size) if tokens else [0]:
            ids = tokens[start : start + size]
            delta = decode_pb2.SequenceDelta(handle=submit.handle, choice=choice, token_ids=ids)
            if submit.sampling.logprobs:
                delta.logprobs.extend(_logprobs(token, submit.sampling.top_logprobs) for token in ids)
            deltas.append(delta)
        deltas[-1].finish_reason = STOP if stopped else LENGTH
        if choice == submit.first_choice:
            resumed = self.cached_tokens_resumed if done else None
            cached = self.cached_tokens if resumed is None else resumed
            stats = decode_pb2.RequestStats(
                cached_tokens=cached, prefill_address=self.prefill_address, **self.seconds
            )
            deltas[0].stats.CopyFrom(stats)
        return deltas


def _logprobs(token: int, alternatives: int) -> sampling_pb2.PositionLogprobs:
    top = [sampling_pb2.TokenLogprob(token_id=token + i, logprob=-0.5 - i) for i in range(alternatives)]
    return sampling_pb2.PositionLogprobs(
        sampled=sampling_pb2.TokenLogprob(token_id=token, logprob=-0.5), top=top
    )


@dataclass
class FakeVision(vision_pb2_grpc.VisionServiceServicer):
    """Counts rows as the real one does. `release`: until set, encodes hang; `extra_rows`: it disagrees."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    encoded: list[bytes] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    extra_rows: int = 0
    failures: int = 0
    running: int = 0
    calls: int = 0
    whose: list[tuple[int, int]] = field(default_factory=list)
    """The tenant of each call, and its weight."""
    traceparents: list[str] = field(default_factory=list)
    """The trace context of each call."""
    refuse: PerigeeError | None = None
    pace_s: float = 0.0
    """How long each image takes, one after another."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.release.set()

    async def Encode(self, request, context):
        self.calls += 1
        self.whose.append((request.tenant, request.tenant_weight))
        self.traceparents.append(request.traceparent)
        if self.refuse is not None:
            status = to_status(self.refuse)
            await context.abort(status.code, status.details, status.trailing_metadata)
        self.started.set()
        self.running += 1
        try:
            async with self.turn:
                await asyncio.sleep(self.pace_s)
            async with asyncio.timeout(request.limit_ms / 1000 or None):
                await self.release.wait()
        except TimeoutError:
            status = to_status(DeadlineExceeded("too slow"))
            await context.abort(status.code, status.details, status.trailing_metadata)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1
        if self.failures:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "encoder broke")
        try:
            with Image.open(io.BytesIO(request.image)) as image:
                preprocess = "parity" if request.parity else "standard"
                grid = image_grid(*shown_size(image, preprocess))
                image.load()
        except OSError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not an image: {error}")
        assert request.content_hash == image_hash(request.image, preprocess)
        self.encoded.append(request.content_hash)
        return vision_pb2.EncodeResponse(
            content_hash=request.content_hash,
            num_tokens=grid.num_tokens + self.extra_rows,
            hold_ms=1000,
            incarnation="fake-vision",
        )

    async def EncodeVideo(self, request, context):
        header = read_header(request.video, VideoLimits(1 << 20, 1_000, 60.0))
        chunks = video_chunks(header.width, header.height, header.num_frames, header.fps)
        content_hash = hashlib.sha256(request.video).digest()
        assert request.content_hash == content_hash
        self.encoded.append(content_hash)
        return vision_pb2.EncodeVideoResponse(
            chunks=[
                vision_pb2.EncodeResponse(
                    content_hash=chunk_hash(content_hash, index),
                    num_tokens=chunk.grid.num_tokens + self.extra_rows,
                    hold_ms=1000,
                    incarnation="fake-vision",
                )
                for index, chunk in enumerate(chunks)
            ]
        )


@dataclass
class FakeServer:
    """One worker process: a real server on a port of its own."""

    worker: FakeWorker
    server: grpc.aio.Server
    address: str

    @classmethod
    async def start(
        cls,
        worker: FakeWorker,
        service: FakeDecode | FakeVision | None = None,
        port: int = 0,
        endpoints: Endpoints = ENDPOINTS,
    ) -> FakeServer:
        server = endpoints.grpc_server(max_message_bytes=128 << 20)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(worker, server)
        if isinstance(service, FakeDecode):
            decode_pb2_grpc.add_DecodeServiceServicer_to_server(service, server)
        if isinstance(service, FakeVision):
            vision_pb2_grpc.add_VisionServiceServicer_to_server(service, server)
        port = endpoints.bind_grpc(server, "127.0.0.1", port)
        await server.start()
        return cls(worker, server, f"127.0.0.1:{port}")

    async def stop(self) -> None:
        await self.server.stop(grace=None)
