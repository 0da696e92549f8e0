"""Limits on the work and memory of one grammar, for the gateway that checks it and decode that runs it."""

from __future__ import annotations

import enum
import json
import time

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from services.common.errors import InvalidRequest


class Effort(enum.Enum):
    """The cost of reading a grammar. Value: most seconds of a core, beside the library's own count of work.

    QUICK is enough for most, and so little that nobody minds waiting for others'. What takes more is tried
    again with WHOLE, where it delays only its like; what takes more than that is refused.
    """

    QUICK = 0.25
    WHOLE = 5.0


class WorkMeter:
    """The work of the thread that made it, from then on, in time of a core: a busy machine counts no more."""

    def __init__(self, most_s: float, effort: Effort = Effort.WHOLE) -> None:
        """`effort`: for the library's own limits."""
        self.effort = effort
        self._most_s = most_s
        self._since = time.thread_time()

    @property
    def spent_s(self) -> float:
        """Seconds of a core."""
        return time.thread_time() - self._since

    def check(self, what: str, param: str) -> None:
        """Raises InvalidRequest, its message beginning with `what`, where it was too much."""
        if self.spent_s > self._most_s:
            raise InvalidRequest(f"{what} takes more than {self._most_s:g} s of work", param)


def grammar_limits(effort: Effort = Effort.WHOLE, *, of_caller: bool = False) -> LLParserLimits:
    """Compiling ends within some hundredths of a second, or a few seconds, a mask within some milliseconds,
    the lexer's states within about 30 MB; beyond that the grammar is in error.

    `of_caller`: a text that a caller wrote. It gets less: ten thousand words are well below that, and
    doubling rules cost far more than the library counts.
    """
    quick = effort is Effort.QUICK
    fuel = (50_000 if quick else 200_000) if of_caller else (300_000 if quick else 2_000_000)
    return LLParserLimits(
        initial_lexer_fuel=fuel,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        # A choice among all the properties that a schema may have is two to three items for each.
        max_items_in_row=5_000,
        max_lexer_states=20_000,
        max_grammar_size=50_000 if quick else 500_000,
        verbose_errors=False,
    )


def limited_matcher(
    tokenizer: LLTokenizer, grammar: str, marks: tuple[int, int], limits: LLParserLimits
) -> LLMatcher:
    """A matcher at the beginning of a grammar, Lark or a list of grammars, of which the first counts.

    The library holds a lexer to its limits from the first choice of tokens on, and walks without any along
    bytes that leave no choice: a million of them cost seconds and hundreds of MB. So a choice comes first:
    between two special tokens (`marks`), one of which is taken. In error where the grammar does not compile.
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
    """Why no token can be chosen at a matcher's state, in one line; empty: one can. The matcher stays as it
    is, but its lexer, which copies share, meets new states: ask twice, and it is known whether these are too
    many.
    """
    probe = matcher.deep_copy()
    probe.compute_bitmask()
    return refusal(probe) if probe.is_error() else ""


def refusal(matcher: LLMatcher) -> str:
    """Why a matcher is in error, in one line for its author."""
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
        raise InvalidRequest(f"the grammar is no list of grammars: {error}", "constraint.grammar") from error
    if not grammars or not all(isinstance(each, dict) for each in grammars):
        raise InvalidRequest("the grammar is no list of grammars", "constraint.grammar")
    return grammars
