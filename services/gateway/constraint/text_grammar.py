"""Regular expressions and GBNF grammars of callers, as grammars of the library's."""

from __future__ import annotations

import json
import re

from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark

from services.common.errors import InvalidRequest
from services.common.grammar_limits import Effort, first_error, grammar_limits, limited_matcher, refusal

MAX_CHARACTERS = 32 << 10


class TextGrammars:
    """Turns the callers' texts into rules, and tries these, as the decode workers will, over single bytes.

    Each method raises InvalidRequest: too long, wrong, not regular, allows nothing, or takes too much work.
    """

    def __init__(self) -> None:
        names = {f"<{number}>": 256 + number for number in range(3)}
        self._marks = (256, 257)
        self._tokenizer: LLTokenizer = LLTokenizer.from_tiktoken(  # type: ignore[attr-defined]
            encoder={bytes((byte,)): byte for byte in range(256)},
            special_tokens=names,
            pattern="(?s:.)",
            eos_token=[258],
            n_vocab=259,
            slices=[],
        )

    def of_regex(self, regex: str, param: str, effort: Effort) -> str:
        """Lark rules that match `regex`, whole."""
        _check_length(regex, param)
        made = json.loads(LLMatcher.grammar_from_regex(regex))
        rules: str = made["grammars"][0]["lark_grammar"]
        return self._checked(rules, param, effort)

    def of_gbnf(self, ebnf: str, param: str, effort: Effort) -> str:
        """Lark rules of a GBNF grammar that begins with `root`."""
        _check_length(ebnf, param)
        if not re.search(r"^\s*root\s*::=", ebnf, re.MULTILINE):
            raise InvalidRequest(f"{param} has no rule 'root ::= …'", param)
        try:
            rules = gbnf_to_lark(ebnf)
        except Exception as error:
            raise InvalidRequest(f"{param} is no GBNF grammar: {error}", param) from error
        return self._checked(rules, param, effort)

    def _checked(self, rules: str, param: str, effort: Effort) -> str:
        limits = grammar_limits(effort, of_caller=True)
        failed, messages = LLMatcher.validate_grammar_with_warnings(rules, limits=limits)
        if failed:
            raise InvalidRequest(f"{param}: {messages[0].partition(chr(10))[0]}", param)
        matcher = limited_matcher(self._tokenizer, rules, self._marks, limits)
        error = refusal(matcher) if matcher.is_error() else first_error(matcher) or first_error(matcher)
        if error:
            raise InvalidRequest(f"{param}: {error}", param)
        return rules


def _check_length(text: str, param: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(f"{param} is longer than {MAX_CHARACTERS} characters", param)
