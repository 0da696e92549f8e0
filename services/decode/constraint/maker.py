"""Compiles the grammars of requests, off every thread that others wait for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog

from services.common.errors import InternalError, PerigeeError
from services.decode.constraint.compiler import GrammarCompiler
from services.decode.constraint.rules import ConstraintRules
from services.decode.constraint.token_constraint import TokenConstraint
from services.decode.constraint.vocabulary import GrammarVocabulary

log = structlog.get_logger()

Deliver = Callable[[TokenConstraint | PerigeeError], None]


class ConstraintMaker:
    """Two threads: one builds the vocabulary and compiles, so that a slow grammar delays only its like."""

    def __init__(self, directory: Path, vocab_size: int) -> None:
        """Begins to read the tokenizer files; what is wrong with them fails every constrained request."""
        self._executor = ThreadPoolExecutor(2, "grammar")
        self._compiler: Future[GrammarCompiler] = self._executor.submit(
            lambda: GrammarCompiler(GrammarVocabulary(directory, vocab_size))
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
        """Has `deliver` called on another thread with a constraint that is ready, or with what went wrong.

        `name`: of the request; `outputs`: tokens generated elsewhere; `is_wanted`: asked when its turn has
        come: nothing is compiled or delivered for a request that has ended.
        """

        def work() -> None:
            if is_wanted():
                deliver(self._made(name, rules, max_tokens, outputs))

        self._executor.submit(work)

    def close(self) -> None:
        """What waits is dropped; what is being compiled is waited for by nobody."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _made(
        self, name: str, rules: ConstraintRules, max_tokens: int, outputs: list[int]
    ) -> TokenConstraint | PerigeeError:
        try:
            compiler = self._compiler.result()
            grammar = compiler.compile(rules.grammar)
            constraint = TokenConstraint(
                name,
                rules,
                grammar.matcher,
                compiler.planner,
                compiler.vocabulary,
                max_tokens,
                grammar.way_out,
            )
            constraint.start(outputs)
        except PerigeeError as error:
            return error
        except Exception as error:
            log.exception("constraint failed", request=name)
            return InternalError(f"the grammar of request {name} failed: {type(error).__name__}")
        return constraint
