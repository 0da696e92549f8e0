"""One choice's tokens to the parts of a message."""

from __future__ import annotations

from itertools import zip_longest
from typing import TypeAlias

from perigee.v1 import sampling_pb2
from services.families.output import OutputParser, Piece, TextKind
from services.families.tokenizer import Tokenizer
from services.gateway.pipeline.output.alignment import Alignment
from services.gateway.pipeline.output.events import ChoiceDelta
from services.gateway.workers.stream.token_delta import TokenDelta

_STOP = sampling_pb2.FINISH_REASON_STOP
_LENGTH = sampling_pb2.FINISH_REASON_LENGTH
_TOOL_CALLS = sampling_pb2.FINISH_REASON_TOOL_CALLS

_Token: TypeAlias = tuple[int, sampling_pb2.PositionLogprobs | None]


class ChoiceDecoder:
    """Fed with one choice's deltas in order; `finished` once it ended or met a stop string, by `finish`.

    `completion_tokens` counts every token up to the end, the one that ended it included. `silent_deltas`:
    whether a delta is wanted that has nothing but token ids.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        index: int,
        sampling: sampling_pb2.SamplingParams,
        parser: OutputParser,
        *,
        silent_deltas: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self.index = index
        # Under ignore_eos too: a grammar that accepts nothing more ends a choice whatever the caller wants.
        self._ends = set(sampling.stop_token_ids) | tokenizer.stop_ids
        self._parser = parser
        self._silent_deltas = silent_deltas
        self._alignment = Alignment(parser) if sampling.logprobs else None
        self._tokens = parser if self._alignment is None else self._alignment
        self._waiting: list[_Token] = []
        self._end_of_turn = tokenizer.end_of_turn
        self._is_cut = False
        self.finished = False
        self.finish: sampling_pb2.FinishReason.ValueType = sampling_pb2.FINISH_REASON_UNSPECIFIED
        self.completion_tokens = 0
        self._has_answered = False
        self._fed = 0

    @property
    def only_reasoned(self) -> bool:
        """Whether the choice has ended behind reasoning, without content and without calls."""
        return self.finished and self.reasoning_tokens > 0 and not self._has_answered

    @property
    def matched_stop(self) -> str:
        """The caller's stop string that ended the choice; empty: none did."""
        return self._parser.matched_stop

    @property
    def reasoning_tokens(self) -> int:
        """How many came before the content, whether reasoning is shown apart or not."""
        return self._parser.reasoning_tokens

    def feed(self, delta: TokenDelta) -> list[ChoiceDelta]:
        """Returns what a delta adds, without tokens after a stop string; the last has the finish reason.

        Raises what the check of calls raises.
        """
        if self.completion_tokens > self._fed and self._parser.plain is TextKind.CONTENT:
            # All tokens that were counted in place of `feed` were of this kind.
            self._has_answered = True
        token_ids = tuple(delta.token_ids)
        self._is_cut = self._is_cut or delta.is_cut
        used, finish = self._parse(token_ids, delta.finish_reason)
        self.completion_tokens += used
        self._fed = self.completion_tokens
        if self._alignment is None:
            deltas = self._apart(self._parser.take())
            if self._silent_deltas and used:
                deltas = deltas or [ChoiceDelta(self.index)]
                deltas[0].token_ids = token_ids[:used]
        else:
            self._waiting += zip_longest(token_ids[:used], delta.logprobs[:used])
            deltas = self._aligned(self._alignment)
        if finish:
            if finish == _STOP and self._parser.num_calls and not self._parser.is_unfinished:
                finish = _TOOL_CALLS
            self.finish = finish
            last = self._with_tokens(ChoiceDelta(self.index, finish_reason=finish), len(self._waiting))
            deltas.append(last)
        return deltas

    @property
    def plain(self) -> TextKind | None:
        """The kind of text that a token of whole characters would be, if it needs no other handling."""
        return None if self.finished or self._alignment is not None else self._parser.plain

    def count_plain(self) -> None:
        """Replaces `feed` for a `plain` token that a shortcut has taken."""
        self.completion_tokens += 1
        self._parser.count_plain()

    def _parse(
        self, token_ids: tuple[int, ...], finish: sampling_pb2.FinishReason.ValueType
    ) -> tuple[int, sampling_pb2.FinishReason.ValueType]:
        """Gives the tokens to the parser: how many count, and how that ended the choice (0: it goes on)."""
        last = len(token_ids) - 1
        for index, token_id in enumerate(token_ids):
            ends = index == last and self._is_end(token_id, finish)
            if not ends and self._tokens.feed(token_id):
                self.finished = True
                return index + 1, _STOP
        if finish:
            self.finished = True
            if self._tokens.end(by_model=finish == _STOP):
                finish = _STOP
        return last + 1, finish

    def _is_end(self, token_id: int, finish: sampling_pb2.FinishReason.ValueType) -> bool:
        """True if a choice's last token ended it, and so is no text."""
        if finish == _STOP:
            return token_id in self._ends
        # A grammar that closed in haste ends like any other; only its reason is another one.
        return finish == _LENGTH and self._is_cut and token_id == self._end_of_turn

    def _apart(self, piece: Piece) -> list[ChoiceDelta]:
        """Returns a delta for each kind of text and each piece of a call, in the order of their tokens."""
        deltas = []
        if piece.reasoning:
            deltas.append(ChoiceDelta(self.index, reasoning=piece.reasoning))
        if piece.content or piece.calls:
            self._has_answered = True
        if piece.content:
            deltas.append(ChoiceDelta(self.index, content=piece.content))
        deltas += [ChoiceDelta(self.index, call=call) for call in piece.calls]
        return deltas

    def _aligned(self, alignment: Alignment) -> list[ChoiceDelta]:
        """The same, each with its tokens; and deltas of nothing but tokens."""
        deltas = []
        for piece, num_tokens in alignment.take():
            [delta] = self._apart(piece) or [ChoiceDelta(self.index)]
            deltas.append(self._with_tokens(delta, num_tokens))
        return deltas if self._silent_deltas else [delta for delta in deltas if not delta.silent]

    def _with_tokens(self, delta: ChoiceDelta, count: int) -> ChoiceDelta:
        """Gives it the first of the tokens that wait."""
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        delta.token_ids = tuple(token_id for token_id, _ in taken)
        delta.logprobs = tuple(self._name(logprobs) for _, logprobs in taken if logprobs is not None)
        return delta

    def _name(self, position: sampling_pb2.PositionLogprobs) -> sampling_pb2.PositionLogprobs:
        """The same position with every token's bytes and text filled in."""
        for token in (position.sampled, *position.top):
            token.token_bytes = self._tokenizer.token_bytes(token.token_id)
            token.token = token.token_bytes.decode(errors="replace")
        return position
