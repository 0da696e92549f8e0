"""What the engine sends to the sessions: one batch per session and engine step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from perigee.v1 import sampling_pb2
from services.common.errors import PerigeeError
from services.decode.request import Delta, Request, Session
from services.engine.sampling.sampler import SampledToken
from services.engine.sampling.scores import Scores


class DeltaOutbox:
    """Collects each session's deltas, adds stats to the first of a request, and drops a request with the end
    of its last choice. Engine thread.
    """

    def __init__(self, on_first: Callable[[Request], None], on_end: Callable[[Request], None]) -> None:
        """`on_first` takes a request whose stats are about to be sent, `on_end` one whose last choice has
        ended.
        """
        self._on_first = on_first
        self._on_end = on_end
        self._sessions: set[Session] = set()
        self._deltas: dict[Session, list[Delta]] = {}

    def add_request(self, request: Request) -> bool:
        """Adds a request, all of whose choices are unfinished. Returns False if another live request has its
        handle.
        """
        request.unfinished = set(request.choices)
        self._sessions.add(request.session)
        return request.session.requests.setdefault(request.handle, request) is request

    def drop_session(self, session: Session) -> None:
        """Forgets a session whose gateway is gone; nothing is sent to it any more."""
        self._sessions.discard(session)
        self._deltas.pop(session, None)

    def requests(self) -> list[Request]:
        """Returns all live requests."""
        return [request for session in self._sessions for request in session.requests.values()]

    def put(
        self,
        request: Request,
        choice: int,
        tokens: tuple[SampledToken, ...],
        finish: sampling_pb2.FinishReason.ValueType,
    ) -> None:
        """Adds new tokens of a choice, its end, or both."""
        self._add(request, Delta(request.handle, choice, tokens, finish))

    def put_error(self, request: Request, error: PerigeeError) -> None:
        """Ends every unfinished choice; error and stats go with the first."""
        finish = sampling_pb2.FINISH_REASON_ERROR
        first, *others = sorted(request.unfinished)
        self._add(request, Delta(request.handle, first, (), finish, error, request.stats))
        for choice in others:
            self._add(request, Delta(request.handle, choice, (), finish))

    def put_waiting(self, requests: Iterable[Request]) -> None:
        """Adds a sign of life of requests that get no token for now."""
        for request in requests:
            sign = Delta(request.handle, request.choices.start, waits=True)
            self._deltas.setdefault(request.session, []).append(sign)

    def put_accepted(self, request: Request) -> None:
        """Adds that a request is no longer refused."""
        sign = Delta(request.handle, request.choices.start, accepts=True)
        self._deltas.setdefault(request.session, []).append(sign)

    def put_scores(self, request: Request, scores: Scores) -> None:
        """Sends the scores of a request's prompt at once, in batches of their own and of bounded size."""
        self.publish()
        for piece in scores.pieces():
            request.session.emit([Delta(request.handle, request.choices.start, scores=piece)])

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
            self._on_first(request)
            delta = replace(delta, stats=request.stats)
        self._deltas.setdefault(request.session, []).append(delta)
        if not request.unfinished:
            self._on_end(request)
