"""Compiles the grammars of requests on threads that no other work waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import structlog

from services.common.errors import InternalError, InvalidRequest, Overloaded, PerigeeError
from services.common.grammar_limits import Effort
from services.common.logs import raised_at
from services.decode.constraint.compiler import GrammarCompiler
from services.decode.constraint.rules import ConstraintRules
from services.decode.constraint.token_constraint import TokenConstraint
from services.decode.constraint.vocabulary import GrammarVocabulary
from services.families.grammar import GrammarTokens

log = structlog.get_logger()

Deliver = Callable[[TokenConstraint | PerigeeError], None]


MAX_LARGE = 32


class ConstraintMaker:
    """Makes constraints on three thread pools, so that a slow grammar delays only other slow ones.

    `grammar-ready` serves compiled grammars, `grammar` compiles with QUICK effort (and builds the vocabulary
    first), `grammar-large` compiles what needs WHOLE effort.
    """

    def __init__(self, read_tokens: Callable[[], GrammarTokens], vocab_size: int) -> None:
        """Starts reading the tokenizer files; an error in them fails every constrained request."""
        self._ready = ThreadPoolExecutor(1, "grammar-ready")
        self._quick = ThreadPoolExecutor(2, "grammar")
        self._large = ThreadPoolExecutor(1, "grammar-large")
        self._num_large = 0
        self._lock = Lock()
        self._compiler: Future[GrammarCompiler] = self._quick.submit(
            lambda: GrammarCompiler(GrammarVocabulary(read_tokens(), vocab_size))
        )

    def make(
        self,
        name: str,
        rules: ConstraintRules,
        max_tokens: int,
        outputs: list[int],
        is_wanted: Callable[[], bool],
        deliver: Deliver,
    ) -> None:
        """Calls `deliver` on another thread, with a prepared constraint or with the error.

        `name`: the request's, for errors and logs. `outputs`: tokens generated elsewhere. `is_wanted` is
        called when the request's turn comes: if it is false, nothing is compiled or delivered.
        """

        def quick() -> None:
            if is_wanted():
                made = self._made(name, rules, max_tokens, outputs, Effort.QUICK)
                if not isinstance(made, InvalidRequest):
                    deliver(made)
                elif not self._entered_large():
                    deliver(Overloaded(f"{MAX_LARGE} large grammars wait to be compiled"))
                else:
                    self._large.submit(large)

        def large() -> None:
            try:
                if is_wanted():
                    deliver(self._made(name, rules, max_tokens, outputs, Effort.WHOLE))
            finally:
                self._leave_large()

        is_ready = self._compiler.done() and not self._compiler.exception()
        seen = is_ready and self._compiler.result().cached(rules.grammar) is not None
        (self._ready if seen else self._quick).submit(quick)

    def close(self) -> None:
        """Drops queued requests; does not wait for grammars being compiled."""
        for lane in (self._ready, self._quick, self._large):
            lane.shutdown(wait=False, cancel_futures=True)

    def _entered_large(self) -> bool:
        with self._lock:
            enters = self._num_large < MAX_LARGE
            self._num_large += enters
            return enters

    def _leave_large(self) -> None:
        with self._lock:
            self._num_large -= 1

    def _made(
        self,
        name: str,
        rules: ConstraintRules,
        max_tokens: int,
        outputs: list[int],
        effort: Effort = Effort.WHOLE,
    ) -> TokenConstraint | PerigeeError:
        try:
            compiler = self._compiler.result()
            grammar = compiler.compile(rules.grammar, effort)
            constraint = TokenConstraint(
                name,
                rules,
                grammar,
                compiler,
                max_tokens,
            )
            constraint.start(outputs)
        except PerigeeError as error:
            return error
        except Exception as error:  # noqa: BLE001 - barrier: fails the request, not the engine
            log.error("constraint failed", request=name, exception=raised_at(error))
            return InternalError(f"the grammar of request {name} failed: {type(error).__name__}")
        return constraint
