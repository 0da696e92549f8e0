"""A request's grammar, and the rules for where in the output it begins."""

from __future__ import annotations

from dataclasses import dataclass

from perigee.v1 import decode_pb2
from services.common.errors import InvalidRequest

MAX_GRAMMAR_BYTES = 2 << 20


@dataclass(frozen=True)
class ConstraintRules:
    """Fields as in perigee.v1.Constraint."""

    grammar: str
    in_reasoning: bool
    has_section: bool
    waits_for_section: bool
    closes_calls: bool = False


def rules_from_proto(message: decode_pb2.Constraint) -> ConstraintRules:
    """Raises InvalidRequest if the grammar is absent, too long, or could never begin."""
    size = len(message.grammar.encode())
    if not 0 < size <= MAX_GRAMMAR_BYTES:
        raise InvalidRequest(
            f"the grammar has {size} bytes; must have 1 to {MAX_GRAMMAR_BYTES}", "constraint.grammar"
        )
    if message.waits_for_section and not message.has_section:
        raise InvalidRequest("a grammar without a section cannot wait for one", "constraint.has_section")
    return ConstraintRules(
        message.grammar,
        message.in_reasoning,
        message.has_section,
        message.waits_for_section,
        message.closes_calls,
    )
