"""From the tokens of a step to longer sequences, cached pages and deltas."""

from __future__ import annotations

from collections import abc

from perigee.v1 import sampling_pb2
from services.common.errors import PerigeeError
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.delta_outbox import DeltaOutbox
from services.decode.request import Request, Sequence
from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.page_manager import PageManager
from services.engine.sampling.outcome import Outcome, SampledToken

_GOES_ON = sampling_pb2.FINISH_REASON_UNSPECIFIED
_STOP = sampling_pb2.FINISH_REASON_STOP
_LENGTH = sampling_pb2.FINISH_REASON_LENGTH


class Postprocessor:
    """Appends new tokens to their sequences and decides where these end. Engine thread only."""

    def __init__(
        self,
        pages: PageManager,
        masks: MaskThreads,
        outbox: DeltaOutbox,
        end: abc.Callable[[Sequence], None],
        fail: abc.Callable[[Request, PerigeeError], None],
    ) -> None:
        """`end` takes a sequence that is complete, `fail` a request with an error in place of a token."""
        self._pages = pages
        self._masks = masks
        self._outbox = outbox
        self._end = end
        self._fail = fail

    def take(self, sequence: Sequence, outcomes: tuple[Outcome, ...]) -> None:
        """Takes the tokens up to the one that ends the sequence, or up to an error; discards the others."""
        taken: list[SampledToken] = []
        finish, error = _GOES_ON, None
        for outcome in outcomes:
            if isinstance(outcome, PerigeeError):
                error = outcome
                break
            taken.append(outcome)
            finish = self._append(sequence, outcome)
            if finish:
                break
        if taken:
            self._deliver(sequence, tuple(taken), finish)
        if error is not None:
            self._outbox.publish()  # the error must not overtake tokens of any choice of the request
            self._fail(sequence.request, error)

    def _append(self, sequence: Sequence, token: SampledToken) -> sampling_pb2.FinishReason.ValueType:
        """Appends one token; returns how it ends the sequence, or unspecified (0)."""
        token_id, constraint = token.token_id, sequence.constraint
        sequence.context.append(token_id)
        sequence.sampling.append(token_id)
        if constraint is not None and token.drawn_id is not None:
            constraint.is_cut = True  # a fork may have replaced the token
        if constraint is not None and constraint.is_end(token_id):
            # The output is whole, but cut short: the caller learns that the model had more to say.
            return _LENGTH if constraint.is_cut else _STOP
        if token_id in sequence.request.spec.stop_token_ids:
            return _STOP
        if len(sequence.context) >= sequence.max_length:
            return _LENGTH
        if constraint is not None:
            self._masks.advance(constraint, token_id)
        return _GOES_ON

    def _deliver(
        self,
        sequence: Sequence,
        tokens: tuple[SampledToken, ...],
        finish: sampling_pb2.FinishReason.ValueType,
    ) -> None:
        """Sends tokens that were appended, and makes the pages findable that they make whole."""
        request, written, known = sequence.request, len(sequence.context) - 1, sequence.hashes
        if self._pages.whole_pages(written) > len(known):
            sequence.hashes = self._pages.hashes(request, sequence.context, written, known)
            self._pages.remember(sequence.hashes, sequence.table, len(known) * PAGE_TOKENS, written)
        self._outbox.put(request, sequence.choice, tokens, finish)
        if finish:
            self._pages.remember_tail(request, sequence.context, sequence.table, sequence.hashes, written)
            self._end(sequence)
