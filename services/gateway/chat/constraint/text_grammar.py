"""Regular expressions and GBNF grammars of callers, as grammars of the library's."""

from __future__ import annotations

import json
import re

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import gbnf_to_lark

from services.common.errors import InvalidRequest
from services.common.grammar_limits import grammar_limits

MAX_CHARACTERS = 32 << 10


def regex_grammar(regex: str, param: str) -> str:
    """Lark rules that match `regex`, whole. Raises InvalidRequest: too long, wrong, or not regular."""
    _check_length(regex, param)
    made = json.loads(LLMatcher.grammar_from_regex(regex))
    rules: str = made["grammars"][0]["lark_grammar"]
    return _checked(rules, param)


def gbnf_grammar(ebnf: str, param: str) -> str:
    """Lark rules of a GBNF grammar that begins with `root`. Raises InvalidRequest where it is none."""
    _check_length(ebnf, param)
    if not re.search(r"^\s*root\s*::=", ebnf, re.MULTILINE):
        raise InvalidRequest(f"{param} has no rule 'root ::= …'", param)
    try:
        rules = gbnf_to_lark(ebnf)
    except Exception as error:
        raise InvalidRequest(f"{param} is no GBNF grammar: {error}", param) from error
    return _checked(rules, param)


def _check_length(text: str, param: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(f"{param} is longer than {MAX_CHARACTERS} characters", param)


def _checked(rules: str, param: str) -> str:
    failed, messages = LLMatcher.validate_grammar_with_warnings(rules, limits=grammar_limits())
    if failed:
        raise InvalidRequest(f"{param}: {messages[0].partition(chr(10))[0]}", param)
    return rules
