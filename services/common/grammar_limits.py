"""How much work and memory one grammar may take, for whoever checks it and whoever runs it."""

from __future__ import annotations

from llguidance import LLParserLimits


def grammar_limits() -> LLParserLimits:
    """Compiling ends within a few seconds, a mask within some milliseconds, the lexer's states within some
    30 MB; beyond that the grammar is in error."""
    return LLParserLimits(
        initial_lexer_fuel=2_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_lexer_states=20_000,
        max_grammar_size=500_000,
        verbose_errors=False,
    )
