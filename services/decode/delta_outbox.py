"""What the sessions are to hear: one batch per session and engine step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from perigee.v1 import sampling_pb2
from services.common.errors import PerigeeError
from services.decode.request import Delta, Request, Session
from services.engine.sampling.sampler import SampledToken


class DeltaOutbox:
    """Collects deltas, adds stats where they are due, and forgets a request with its last choice. Engine
    thread."""

    def __init__(self) -> None:
        self._sessions: set[Session] = set()
        self._deltas: dict[Session, list[Delta]] = {}

    def joined(self, request: Request) -> bool:
        """A request came; all its choices are unfinished. False: its handle is another live request's."""
        request.unfinished = set(request.choices)
        self._sessions.add(request.session)
        return request.session.requests.setdefault(request.handle, request) is request

    def left(self, session: Session) -> None:
        """The gateway is gone: nothing is told any more."""
        self._sessions.discard(session)
        self._deltas.pop(session, None)

    def requests(self) -> list[Request]:
        """All live requests."""
        return [request for session in self._sessions for request in session.requests.values()]

    def tell(
        self,
        request: Request,
        choice: int,
        token: SampledToken | None,
        finish: sampling_pb2.FinishReason.ValueType,
    ) -> None:
        """A new token of a choice, its end, or both."""
        tokens = (token,) if token is not None else ()
        self._add(request, Delta(request.handle, choice, tokens, finish))

    def tell_error(self, request: Request, error: PerigeeError) -> None:
        """Every unfinished choice ends; error and stats go with the first."""
        finish = sampling_pb2.FINISH_REASON_ERROR
        first, *others = sorted(request.unfinished)
        self._add(request, Delta(request.handle, first, (), finish, error, request.stats))
        for choice in others:
            self._add(request, Delta(request.handle, choice, (), finish))

    def tell_waiting(self, requests: Iterable[Request]) -> None:
        """No token of these is due, but they are not forgotten."""
        for request in requests:
            sign = Delta(request.handle, request.choices.start, waits=True)
            self._deltas.setdefault(request.session, []).append(sign)

    def publish(self) -> None:
        """Hands every session its batch."""
        deltas, self._deltas = self._deltas, {}
        for session, batch in deltas.items():
            session.emit(batch)

    def _add(self, request: Request, delta: Delta) -> None:
        if delta.finish:
            request.unfinished.discard(delta.choice)
            requests = request.session.requests
            if not request.unfinished and requests.get(request.handle) is request:
                del requests[request.handle]
        if not request.stats_sent:
            request.stats_sent = True
            delta = replace(delta, stats=request.stats)
        self._deltas.setdefault(request.session, []).append(delta)
