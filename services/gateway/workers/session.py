"""The one stream between this gateway and a decode worker: submits and cancels up, tokens down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import grpc
import structlog

from perigee.v1 import decode_pb2, decode_pb2_grpc
from services.common.errors import InternalError, PerigeeError, Unavailable, WorkerLost
from services.common.logs import raised_at
from services.common.rpc.cancellation import raise_if_cancelled
from services.common.rpc.status import from_rpc_error
from services.gateway.workers.backoff import Backoff
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.outbox import Outbox
from services.gateway.workers.remote_error import failure_of
from services.gateway.workers.session_reader import SessionReader
from services.gateway.workers.stream.token_delta import TokenDelta
from services.gateway.workers.stream.token_stream import StreamInbox, TokenStream

log = structlog.get_logger()

_SLICE = 16
"""Tokens per slice; between slices the loop runs other tasks."""
_FEW = 8
"""Responses at once. Beyond, joining a choice's tokens into one event costs less than a shortcut for each."""


class DecodeSession:
    """Submits requests and hands each its deltas. Used on the event loop only.

    A break fails every request on the stream with Unavailable naming the worker; `run` then opens a new one
    as soon as the worker is up.
    """

    def __init__(
        self, link: WorkerLink, handles: Iterator[int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Uses the link's channel, and counts requests there. `handles`: numbers unique in this gateway."""
        self.address = link.address
        self._name = f"decode worker {link.address}"
        self._link = link
        self._handles = handles
        self._clock = clock
        self._streams: dict[int, TokenStream] = {}
        self._outbox: Outbox | None = None

    @property
    def connected(self) -> bool:
        """True while a submit can be sent."""
        return self._outbox is not None

    @property
    def active(self) -> int:
        """Requests whose tokens are awaited."""
        return len(self._streams)

    def submit(self, submit: decode_pb2.Submit, inbox: StreamInbox) -> TokenStream:
        """Sends a request under a new `handle`; its deltas and its failure go into `inbox`. The caller must
        close the stream in the end.

        Raises Unavailable when no session is open.
        """
        if self._outbox is None:
            raise Unavailable(f"{self._name} has no open session")
        submit.handle = next(self._handles)
        stream = TokenStream(submit.handle, self.address, max(1, submit.sampling.n), inbox, self._close)
        stream.circuit = self._link.circuit
        self._streams[submit.handle] = stream
        self._outbox.submit(submit)
        self._link.note_sent()
        return stream

    async def run(self) -> None:
        """Keeps a session open while the worker is up, until cancelled."""
        backoff = Backoff()
        while True:
            await self._link.up.wait()
            try:
                await self._converse(backoff)
            except PerigeeError as error:
                raise_if_cancelled()
                self._link.circuit.failed()
                log.warning("decode session broke", address=self.address, detail=error.message)
            await asyncio.sleep(backoff.delay())

    async def _converse(self, backoff: Backoff) -> None:
        outbox = Outbox()
        call = decode_pb2_grpc.DecodeServiceStub(self._link.channel).Session(outbox.messages())
        self._outbox = outbox
        reader = SessionReader(call, self._clock)
        cause = "closed the session"
        try:
            while responses := await reader.next():
                backoff.reset()
                await self._deliver(responses)
        except grpc.aio.AioRpcError as error:
            cause = f"broke the session: {error.details()}"
            raise from_rpc_error(error) from error
        except PerigeeError as error:
            cause = f"broke the session: {error.message}"
            raise
        finally:
            self._outbox = None
            outbox.close()
            reader.close()
            call.cancel()
            self._fail_all(WorkerLost(f"{self._name} {cause}"))

    async def _deliver(self, responses: Sequence[decode_pb2.SessionResponse]) -> None:
        """Puts the tokens of a single response in slices.

        Several responses have come while the loop was busy: their tokens are put all at once; those of many
        responses without shortcuts.
        """
        late = len(responses) > _FEW
        for response in responses:
            self._note_accepted(response)
            if response.HasField("scores"):
                self._put_scores(response.scores)
            self._put_deltas(response)
            tokens, now = self._tokens(response), self._clock()
            self._note_waiting(response, now)
            size = _SLICE if len(responses) == 1 else max(1, len(tokens))
            for begin in range(0, len(tokens), size):
                if begin:
                    await asyncio.sleep(0)
                self._put_tokens(tokens[begin : begin + size], now, late=late)

    def _tokens(self, response: decode_pb2.SessionResponse) -> list[tuple[int, int, int]]:
        """Returns handle, choice and id of each token. Raises WorkerLost if the columns differ in length."""
        columns = response.tokens
        handles, choices, token_ids = list(columns.handles), list(columns.choices), list(columns.token_ids)
        if not len(handles) == len(choices) == len(token_ids):
            raise WorkerLost(f"{self._name} sent columns of different length")
        return list(zip(handles, choices, token_ids, strict=True))

    def _put_deltas(self, response: decode_pb2.SessionResponse) -> None:
        for delta in response.deltas:
            stream = self._streams.get(delta.handle)
            if stream is None:
                continue
            failure = failure_of(delta, self._name)
            if failure is None:
                stream.put(TokenDelta.from_proto(delta))
            else:
                stream.fail(failure)

    def _put_scores(self, message: decode_pb2.RequestScores) -> None:
        stream = self._streams.get(message.handle)
        if stream is not None:
            stream.last_seen_at = self._clock()
            stream.put_scores(message.scores)

    def _note_accepted(self, response: decode_pb2.SessionResponse) -> None:
        for handle in response.accepted_handles:
            stream = self._streams.get(handle)
            if stream is not None:
                stream.accept()

    def _note_waiting(self, response: decode_pb2.SessionResponse, now: float) -> None:
        for handle in response.waiting_handles:
            stream = self._streams.get(handle)
            if stream is not None:
                stream.last_seen_at = now

    def _put_tokens(self, tokens: Sequence[tuple[int, int, int]], now: float, *, late: bool) -> None:
        """`late`: without the shortcuts."""
        for handle, choice, token_id in tokens:
            stream = self._streams.get(handle)
            if stream is None:
                continue
            try:
                if late:
                    stream.put_late_token(choice, token_id)
                else:
                    stream.put_token(choice, token_id, now)
            # Barrier: a defect in how one request handles its tokens must not end the session of all.
            except Exception as error:  # noqa: BLE001 - as above
                log.error(
                    "a token could not be handed on", address=self.address, handle=handle,
                    exception=raised_at(error),
                )  # fmt: skip
                stream.fail(InternalError(f"internal error, request handle {handle}"))

    def _close(self, stream: TokenStream) -> None:
        if self._streams.pop(stream.handle, None) is None:
            return
        self._link.note_ended()
        if stream.finished or self._outbox is None:
            return
        self._outbox.cancel(stream.handle)

    def _fail_all(self, error: PerigeeError) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._link.note_ended()
            stream.fail(error)
