"""Limits a grammar's work and memory, for the gateway, which checks it, and decode, which runs it."""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Callable

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from services.common.errors import InvalidRequest


class Effort(enum.Enum):
    """A limit on the work of compiling a grammar: core seconds, besides the library's own limits.

    QUICK suffices for most grammars and is short enough to wait for. A grammar that needs more is compiled
    again with WHOLE, on a thread where it delays only other such grammars; one that needs still more is
    refused.
    """

    QUICK = 0.25
    WHOLE = 5.0


class WorkMeter:
    """Measures the CPU time of the thread that creates it; other load on the machine does not count."""

    def __init__(
        self, most_s: float, effort: Effort = Effort.WHOLE, rest: Callable[[], None] = lambda: None
    ) -> None:
        """`most_s`: core seconds. `effort`: selects the library's own limits. `rest`: called between pieces
        of the work, at each check for example.
        """
        self.effort = effort
        self.rest = rest
        self._most_s = most_s
        self._since = time.thread_time()

    @property
    def spent_s(self) -> float:
        """Core seconds since creation."""
        return time.thread_time() - self._since

    def check(self, what: str, param: str) -> None:
        """Raises InvalidRequest about `what` if the limit is exceeded."""
        if self.spent_s > self._most_s:
            raise InvalidRequest(f"{what} takes more than {self._most_s:g} s of work", param)
        self.rest()


def grammar_limits(effort: Effort = Effort.WHOLE, *, of_caller: bool = False) -> LLParserLimits:
    """Returns the library's limits; a grammar that exceeds them is in error.

    They allow some hundredths of a second (QUICK) or a few seconds (WHOLE) for compiling, some milliseconds
    per mask, and about 30 MB of lexer states. `of_caller`: the text was written by a caller and gets less
    fuel: ten thousand words stay well below it, and rules that double cost far more than the library counts.
    """
    quick = effort is Effort.QUICK
    fuel = (50_000 if quick else 200_000) if of_caller else (300_000 if quick else 2_000_000)
    return LLParserLimits(
        initial_lexer_fuel=fuel,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        # A choice among all properties a schema may have takes two to three items per property.
        max_items_in_row=5_000,
        max_lexer_states=20_000,
        max_grammar_size=50_000 if quick else 500_000,
        verbose_errors=False,
    )


def limited_matcher(
    tokenizer: LLTokenizer, grammar: str, marks: tuple[int, int], limits: LLParserLimits
) -> LLMatcher:
    """Returns a matcher in the start state of a grammar: Lark text, or a JSON list, main grammar first.

    The matcher is in error if the grammar does not compile. The library enforces lexer limits only from the
    first choice of tokens on; it walks forced bytes without limits, and a million of them cost seconds and
    hundreds of MB. So the grammar is prefixed with a choice between two special tokens (`marks`), and one is
    taken.
    """
    grammars = _grammars(grammar)
    name = grammars[0].setdefault("name", "whole")
    first, second = marks
    choice = {"lark_grammar": f"start: <[{first}]> @{name} | <[{second}]> @{name}\n"}
    text = json.dumps({"grammars": [choice, *grammars]}, ensure_ascii=False)
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_bitmask()
        matcher.consume_token(first)
    return matcher


def first_error(matcher: LLMatcher) -> str:
    """Returns why no token is possible in the matcher's state, in one line; empty if one is.

    The matcher is not changed, but the call may add states to its lexer, which copies share: call again to
    learn whether these are too many.
    """
    probe = matcher.deep_copy()
    probe.compute_bitmask()
    return refusal(probe) if probe.is_error() else ""


def refusal(matcher: LLMatcher) -> str:
    """Returns why a matcher is in error, in one line for the grammar's author."""
    error: str = matcher.get_error().partition("\n")[0]
    if error.startswith("NoExtension"):
        return "nothing that it allows can follow"
    return error.removeprefix("panic: ")[:300]


def _grammars(text: str) -> list[dict[str, str]]:
    if not text.startswith("{"):
        return [{"lark_grammar": text}]
    try:
        grammars: list[dict[str, str]] = json.loads(text)["grammars"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidRequest(
            f"the grammar is not a list of grammars: {error}", "constraint.grammar"
        ) from error
    if not grammars or not all(isinstance(each, dict) for each in grammars):
        raise InvalidRequest("the grammar is not a list of grammars", "constraint.grammar")
    return grammars
