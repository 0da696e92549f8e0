"""Compiles the grammars of requests on threads that no other work waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import structlog

from services.common.errors import InternalError, InvalidRequest, Overloaded, PerigeeError
from services.common.fairness.places import Places
from services.common.fairness.threads import FairThreads
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
    """Makes constraints on three thread pools, so that a slow grammar delays only other slow ones. Tenants
    share each of them.

    `grammar-ready` serves compiled grammars, `grammar` compiles with QUICK effort (and builds the vocabulary
    first), `grammar-large` compiles what needs WHOLE effort.
    """

    def __init__(
        self,
        read_tokens: Callable[[], GrammarTokens],
        vocab_size: int,
        makes_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """Starts reading the tokenizer files; an error in them fails every constrained request.

        `makes_room`: see GrammarCompiler.
        """
        self._ready = FairThreads(1, "grammar-ready")
        self._quick = FairThreads(2, "grammar")
        self._large = FairThreads(1, "grammar-large")
        self._large_places = Places(MAX_LARGE, "large grammars wait to be compiled")
        self._compiler: Future[GrammarCompiler] = self._quick.submit(
            lambda: GrammarCompiler(GrammarVocabulary(read_tokens(), vocab_size), makes_room)
        )

    def make(
        self,
        name: str,
        rules: ConstraintRules,
        max_tokens: int,
        outputs: list[int],
        is_wanted: Callable[[], bool],
        deliver: Deliver,
        whose: tuple[int, int] = (0, 1),
    ) -> None:
        """Calls `deliver` on another thread, with a prepared constraint or with the error.

        `name`: the request's, for errors and logs. `outputs`: tokens generated elsewhere. `is_wanted` is
        called when the request's turn comes: if it is false, nothing is compiled or delivered. `whose`: the
        tenant's number and weight.
        """

        def quick() -> None:
            if is_wanted():
                made = self._made(name, rules, max_tokens, outputs, Effort.QUICK)
                if not isinstance(made, InvalidRequest):
                    deliver(made)
                    return
                try:
                    self._large_places.take(whose)
                except Overloaded as error:
                    deliver(error)
                    return
                self._large.submit(large, whose)

        def large() -> None:
            try:
                if is_wanted():
                    deliver(self._made(name, rules, max_tokens, outputs, Effort.WHOLE))
            finally:
                self._large_places.leave(whose)

        is_ready = self._compiler.done() and not self._compiler.exception()
        seen = is_ready and self._compiler.result().cached(rules.grammar) is not None
        (self._ready if seen else self._quick).submit(quick, whose)

    def close(self) -> None:
        """Drops queued requests; does not wait for grammars being compiled."""
        for lane in (self._ready, self._quick, self._large):
            lane.close()

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
