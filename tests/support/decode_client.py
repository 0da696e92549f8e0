"""A gateway's side of a decode session, for tests that need tokens and stats."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from perigee.v1 import decode_pb2, decode_pb2_grpc, sampling_pb2, vision_pb2, worker_pb2, worker_pb2_grpc
from tests.support.responses import deltas_of


@dataclass
class Outcome:
    """Everything that was received for a request, by choice."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    logprobs: dict[int, list[float]] = field(default_factory=dict)
    finish: dict[int, int] = field(default_factory=dict)
    stats: decode_pb2.RequestStats | None = None
    error: decode_pb2.RequestError | None = None
    first_token: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


class DecodeClient:
    """One session; requests may be submitted from any thread."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._up: queue.SimpleQueue[decode_pb2.SessionRequest | None] = queue.SimpleQueue()
        self._outcomes: dict[int, tuple[Outcome, int]] = {}
        self._next_handle = 1
        self._lock = threading.Lock()
        self.failure: grpc.RpcError | None = None
        self._worker = worker_pb2_grpc.WorkerServiceStub(channel)
        self._stream = decode_pb2_grpc.DecodeServiceStub(channel).Session(self._requests())
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def submit(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        prefill: Sequence[str],
        *,
        n: int = 1,
        temperature: float = 0.0,
        seed: int = 1,
        outputs: Sequence[int] = (),
        media: Sequence[vision_pb2.MediaRef] = (),
        salt: str = "",
        logprobs: bool = False,
        timeout_ms: int = 0,
        own_address: str = "",
    ) -> tuple[int, Outcome]:
        """Sends a request; greedy by default."""
        sampling = sampling_pb2.SamplingParams(
            temperature=temperature, top_p=1.0, seed=seed, n=n, max_tokens=max_tokens, logprobs=logprobs
        )
        outcome = Outcome()
        with self._lock:
            handle = self._next_handle
            self._next_handle += 1
            self._outcomes[handle] = (outcome, n)
            if self.failure is not None:
                outcome.done.set()
        submit = decode_pb2.Submit(
            handle=handle,
            request_id=f"test-{handle}",
            prompt_token_ids=prompt,
            output_token_ids=outputs,
            sampling=sampling,
            media=media,
            cache_salt=salt,
            prefill_addresses=prefill,
            timeout_ms=timeout_ms,
            own_address=own_address,
        )
        self._up.put(decode_pb2.SessionRequest(submits=[submit]))
        return handle, outcome

    def generate(self, prompt: Sequence[int], max_tokens: int, prefill: Sequence[str], **options) -> Outcome:
        """Submits and waits for the end of every choice."""
        _, outcome = self.submit(prompt, max_tokens, prefill, **options)
        if not outcome.done.wait(120):
            # The worker's load shows on which side of the stream the request was lost.
            raise AssertionError(f"the request did not end: {outcome}; the worker's load: {self._load()}")
        return outcome

    def cancel(self, handle: int) -> None:
        """Cancels a request."""
        self._up.put(decode_pb2.SessionRequest(cancels=[decode_pb2.Cancel(handle=handle)]))

    def break_off(self) -> None:
        """Cancels the session, like a gateway that dies."""
        self._stream.cancel()

    def close(self) -> None:
        """Half-closes the session and waits for its end."""
        self._up.put(None)
        self._thread.join(10)

    def _load(self) -> worker_pb2.LoadReport:
        return next(iter(self._worker.WatchLoad(worker_pb2.WatchLoadRequest(), timeout=10)))

    def _requests(self) -> Iterator[decode_pb2.SessionRequest]:
        while (request := self._up.get()) is not None:
            yield request

    def _hear(self) -> None:
        try:
            for response in self._stream:
                for delta in deltas_of(response):
                    self._take(delta)
        except grpc.RpcError as error:
            with self._lock:
                self.failure = error
        for outcome, _ in list(self._outcomes.values()):
            outcome.done.set()

    def _take(self, delta: decode_pb2.SequenceDelta) -> None:
        outcome, choices = self._outcomes[delta.handle]
        outcome.tokens.setdefault(delta.choice, []).extend(delta.token_ids)
        outcome.logprobs.setdefault(delta.choice, []).extend(p.sampled.logprob for p in delta.logprobs)
        if delta.HasField("stats"):
            outcome.stats = delta.stats
        if delta.HasField("error"):
            outcome.error = delta.error
        if delta.token_ids:
            outcome.first_token.set()
        if delta.finish_reason:
            outcome.finish[delta.choice] = delta.finish_reason
            if len(outcome.finish) == choices:
                outcome.done.set()
