"""The text of a grammar: an answer in JSON, and what the decode worker compiles."""

from __future__ import annotations

import json

from services.families.conversation import Json
from services.families.grammar import json_rule

# Between the parts of an answer: one space or none, or the end of a line with an indentation.
_ANSWER_SPACE = {"whitespace_pattern": r"( |\n {0,32})"}


def json_grammar(schema: Json) -> str:
    """The grammar of an answer in JSON under `schema`."""
    return f"start: {json_rule(schema, _ANSWER_SPACE)}\n"


def whole_grammar(section: str, answer: str) -> str:
    """What the decode worker compiles: rules of a section, an answer's grammar, or both as alternatives."""
    starts = [name for name, rules in (("section", section), ("@answer", answer)) if rules]
    grammars = [
        {"name": "output", "lark_grammar": f"%llguidance {{}}\nstart: {' | '.join(starts)}\n{section}"}
    ]
    if answer:
        grammars.append({"name": "answer", "lark_grammar": answer})
    return json.dumps({"grammars": grammars}, ensure_ascii=False)
