"""The grammar state of one choice: free text first, then the grammar."""

from __future__ import annotations

import contextlib
import enum
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

from services.common.errors import InternalError, InvalidRequest, PerigeeError
from services.common.grammar_limits import WorkMeter, refusal
from services.decode.constraint.closing import MAX_WAY
from services.decode.constraint.compiler import CompiledGrammar, GrammarCompiler
from services.decode.constraint.rules import ConstraintRules

# Reasoning leaves this many tokens, or half of `max_tokens` if that is less, for the constrained answer.
ANSWER_RESERVE = 1024
_LOOK_EVERY = 16
# With this many spare tokens beyond the way out or fewer, tokens that open something are checked (_WIDE),
# and all tokens are (_NARROW).
_WIDE = 160
_NARROW = 16
# Core seconds that one choice may spend: before its first token, per token, in one step of a mask thread, and
# in one step on the engine thread, where all other choices wait.
_WORK_S = 5.0
_TOKEN_WORK_S = 0.02
_MOST_STEP_S = 2.0
_MOST_ENGINE_STEP_S = 0.5
_FADING = 0.8
# Tokens consumed in one call, which holds the interpreter's lock.
_AT_ONCE = 64


class _Phase(enum.Enum):
    FREE = enum.auto()
    BOUND = enum.auto()


@dataclass
class _WayOut:
    """Tokens that lead to the grammar's end, without the one that ends the turn.

    `certain`: they lead there from the present state. `age`: tokens taken since they were last validated.
    """

    tokens: list[int]
    certain: bool
    age: int = 0

    @property
    def cost(self) -> int:
        """Number of tokens, including the one that ends the turn."""
        return len(self.tokens) + 1


class TokenConstraint:
    """A RowConstraint. For each token the engine thread calls `allowed`, `substitute`, `is_end` and
    `advance`, in this order. If a step gives several, forks choose them, and then `is_end` and `advance` are
    called for each. From the last `advance` until `is_prepared`, the thread that calls `prepare` owns the
    state.

        FREE  --(end of reasoning, unless it waits for a section)--> BOUND
        FREE  --(begin of a section, if the grammar has one)--> BOUND --(end of the turn)--> the end

    Reasoning is free, and so is text while the grammar waits for a section. Two kinds of tokens are masked
    even there: markers of calls outside a section, and, if the grammar must begin, those that end an answer.
    In that case the end of reasoning is forced while ANSWER_RESERVE tokens, or half of `max_tokens` if that
    is less, are left.

    When the remaining budget only covers the way out, a token that needs more is replaced by the way out's
    next token: valid output, cut short (`is_cut`). Within a section only if the rules close calls: half of an
    argument must not look like the whole. Everything else depends only on the tokens so far and on
    `max_tokens`, so a choice resumed on another worker continues identically if `is_cut` is passed along.
    """

    def __init__(
        self,
        name: str,
        rules: ConstraintRules,
        grammar: CompiledGrammar,
        compiler: GrammarCompiler,
        max_tokens: int,
    ) -> None:
        """`name`: the request's, for errors. `grammar`: compiled by `compiler` from the rules."""
        vocabulary, way_out = compiler.vocabulary, grammar.way_out
        self.is_cut = False
        self._name = name
        self._rules = rules
        self._grammar = grammar
        self._matcher: LLMatcher = grammar.matcher.deep_copy()
        self._compiler = compiler
        self._planner = compiler.planner
        self._markers = vocabulary.markers
        section = self._markers.section
        self._section_begin = None if section is None else section.begin
        self._openers = vocabulary.openers
        self._vocab_size = vocabulary.size
        self._max_tokens = max_tokens
        self._left = max_tokens
        self._way = None if way_out is None else _WayOut(list(way_out), certain=True)
        bound = not (rules.in_reasoning or rules.waits_for_section)
        self._phase = _Phase.BOUND if bound else _Phase.FREE
        self._free = self._allowed_while_free()
        self._end_of_reasoning = _bits(self._vocab_size, _ids(self._markers.end_reasoning))
        self._is_left_open = False
        self._mask: npt.NDArray[np.uint8] | None = None
        self._taken: list[int] = []
        self._consumed: list[int] = []
        self._failure: PerigeeError | None = None
        self._spent_s = 0.0
        self.is_prepared = True
        self.took_s = self.work_s = 0.0

    def fork(self) -> TokenConstraint:
        """Returns a copy for another choice. Call only while this one is prepared."""
        other = object.__new__(TokenConstraint)
        other.__dict__.update(self.__dict__)
        other._matcher = self._matcher.deep_copy()
        other._consumed = list(self._consumed)
        other._taken = list(self._taken)
        if self._way is not None:
            other._way = _WayOut(list(self._way.tokens), self._way.certain, self._way.age)
        return other

    # -- for the sampler -----------------------------------------------------------------------------------

    def allowed(self) -> npt.NDArray[np.uint8]:
        if self._phase is _Phase.FREE:
            return self._end_of_reasoning if self._must_end_reasoning() else self._free
        if self._failure is not None:
            raise self._failure
        if self._mask is None or self._matcher.is_error():
            raise self._refused(refusal(self._matcher))
        return self._mask

    def substitute(self, token_id: int) -> int:
        way = self._way
        if self._phase is _Phase.FREE or self._is_left_open or way is None or not way.certain:
            return token_id
        spare = self._left - way.cost
        if spare > _WIDE or (spare > _NARROW and token_id not in self._openers):
            return token_id
        if token_id == self._markers.end or way.tokens[:1] == [token_id]:
            return token_id
        with self._metered(_MOST_ENGINE_STEP_S) as meter:
            if self._fits(token_id, way, meter):
                return token_id
        if spare < 0 or self._failure is not None:
            return token_id
        self.is_cut = True
        return way.tokens[0] if way.tokens else self._markers.end

    # -- for the engine ------------------------------------------------------------------------------------

    def is_end(self, token_id: int) -> bool:
        """Whether `token_id`, just chosen, ends the grammar."""
        bound = self._phase is _Phase.BOUND or bool(self._taken)
        return bound and token_id == self._markers.end

    def advance(self, token_id: int) -> bool:
        """Records a token that does not end the choice. Returns whether `prepare` must run before the next
        one is chosen.
        """
        if self._phase is _Phase.FREE and not self._taken and not self._begins(token_id):
            self._left -= 1
            return False
        self._taken.append(token_id)
        self.is_prepared = False
        return True

    def prepare(self) -> bool:
        """Computes the next mask while the model runs. Any thread.

        Sets `took_s` (wall-clock seconds) and `work_s` (core seconds, a decaying maximum). Returns False if
        the lexer, which all choices with this grammar share, is full: then call `renew`.
        """
        started = time.monotonic()
        with self._metered(_MOST_STEP_S) as meter:
            for token_id in self._taken:
                self._take(token_id, meter)
            self._compute_mask()
        self._taken.clear()
        self.took_s = time.monotonic() - started
        if self._failure is None and self._matcher.is_error():
            return False
        self.is_prepared = True
        return True

    def renew(self) -> None:
        """Compiles the grammar again and replays this choice's tokens. Takes seconds; call after `prepare`
        returned False.
        """
        with self._metered(_MOST_STEP_S):
            self._grammar = self._compiler.renew(self._rules.grammar)
            self._matcher = self._grammar.matcher.deep_copy()
            for start in range(0, len(self._consumed), _AT_ONCE):
                self._matcher.consume_tokens(self._consumed[start : start + _AT_ONCE])
            if self._way is not None:
                self._way.certain = False
            self._compute_mask()
        self.is_prepared = True

    def start(self, outputs: list[int]) -> None:
        """Replays tokens generated elsewhere and computes the first mask. Any thread; call once."""
        with self._metered(_WORK_S + _TOKEN_WORK_S * len(outputs)) as meter:
            for token_id in outputs:
                if self._phase is _Phase.FREE and not self._begins(token_id):
                    self._left -= 1
                else:
                    self._take(token_id, meter)
            self._compute_mask()
        if self._failure is None and self._matcher.is_error():
            self.renew()

    @contextlib.contextmanager
    def _metered(self, most_s: float) -> Iterator[WorkMeter]:
        """Meters the work of the block; an error in it, or work beyond the budget, fails the request."""
        meter = WorkMeter(most_s)
        try:
            yield meter
        except PerigeeError as error:
            self._failure = self._refused(error.message)
        except Exception as error:  # noqa: BLE001 - barrier: fails the request, not the engine
            failed = f"the grammar of request {self._name} failed: {type(error).__name__}: {error}"
            self._failure = InternalError(failed)
        # A decaying maximum, because ways out are searched only every few tokens.
        self.work_s = max(meter.spent_s, _FADING * self.work_s)
        self._spent_s += meter.spent_s
        self._grammar.wear.spent_s += meter.spent_s
        allowed_s = _WORK_S + _TOKEN_WORK_S * (self._max_tokens - self._left)
        if self._failure is None and self._spent_s > allowed_s:
            self._failure = self._refused(f"it takes more than {allowed_s:.2g} s of work")

    def _refused(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"the grammar of request {self._name}: {why}", "constraint.grammar")

    # -- the state -----------------------------------------------------------------------------------------

    def _allowed_while_free(self) -> npt.NDArray[np.uint8]:
        section = self._markers.section
        ids = [] if section is None else [*section.opening, *section.closing]
        if not self._rules.has_section:
            ids += _ids(self._section_begin)
        if not self._rules.waits_for_section:
            ids += sorted(self._markers.stops)
        return _bits(self._vocab_size, tuple(ids), others=True)

    def _must_end_reasoning(self) -> bool:
        if self._rules.waits_for_section:
            return False
        least = 0 if self._way is None else self._way.cost
        reserve = max(min(ANSWER_RESERVE, self._max_tokens // 2), least)
        return self._left <= reserve + 1

    def _begins(self, token_id: int) -> bool:
        """Whether the grammar begins at this free token."""
        if token_id == self._section_begin:
            return self._rules.has_section
        return token_id == self._markers.end_reasoning and not self._rules.waits_for_section

    def _take(self, token_id: int, meter: WorkMeter) -> None:
        self._left -= 1
        begins = self._phase is _Phase.FREE
        self._phase = _Phase.BOUND
        # The end of reasoning is no part of the grammar; the begin of a section is its first token.
        if not begins or token_id == self._section_begin:
            if not self._consumed and token_id == self._section_begin:
                self._is_left_open = not self._rules.closes_calls
            self._consumed.append(token_id)
            if self._matcher.consume_token(token_id) and not self._is_left_open:
                self._look_ahead(token_id, meter)

    def _compute_mask(self) -> None:
        if self._phase is _Phase.BOUND and not self._matcher.is_error():
            self._mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)

    def _look_ahead(self, token_id: int, meter: WorkMeter) -> None:
        """Updates the way out: makes it certain when tokens run short, else validates it now and then."""
        way = self._way
        if way is not None and way.certain and way.tokens[:1] == [token_id]:
            del way.tokens[0]
            return
        if way is not None:
            way.age += 1
            way.certain = False
            if way.age < _LOOK_EVERY and self._left > 2 * (way.cost + _WIDE):
                return
            if way.cost <= self._left and self._planner.leads_out(self._matcher, way.tokens):
                way.certain, way.age = True, 0
                return
        elif self._left % _LOOK_EVERY:
            return
        tokens = self._planner.way_out(self._matcher, min(MAX_WAY, self._left - 1), meter)
        self._way = None if tokens is None else _WayOut(tokens, certain=True)

    def _fits(self, token_id: int, way: _WayOut, meter: WorkMeter) -> bool:
        """Whether the grammar can still end within the remaining tokens after this one."""
        probe = self._matcher.deep_copy()
        if not probe.consume_token(token_id):
            return False
        if way.cost < self._left and self._planner.leads_out(probe, way.tokens):
            return True
        return self._planner.way_out(probe, self._left - 2, meter) is not None


def _ids(marker: int | None) -> tuple[int, ...]:
    return () if marker is None else (marker,)


@functools.lru_cache(maxsize=16)
def _bits(size: int, token_ids: tuple[int, ...], others: bool = False) -> npt.NDArray[np.uint8]:
    """Returns a mask as of `RowConstraint.allowed`, uint8 [ceil(size / 8)], that allows these tokens only, or
    with `others` all but these. Cached: requests share it.
    """
    chosen = np.full(size, others)
    chosen[list(token_ids)] = not others
    bits = np.packbits(chosen, bitorder="little")
    bits.setflags(write=False)
    return bits
