"""The longest sequence that a worker takes."""

from __future__ import annotations

from services.common.errors import ConfigError
from services.engine.batch import PAGE_TOKENS


def served_context(asked: int, model_tokens: int, kv_pages: int) -> int:
    """Tokens of the longest prompt plus completion. `asked` 0: what model and pages allow.

    Raises ConfigError if `asked` is more than the model, or than all KV pages together, can hold.
    """
    held = kv_pages * PAGE_TOKENS
    if asked > model_tokens:
        raise ConfigError(
            f"context_length: {asked} tokens are asked for; the model is made for {model_tokens}"
        )
    if asked > held:
        raise ConfigError(
            f"context_length: {asked} tokens are asked for; {kv_pages} KV pages hold {held}. kv_pages must be"
            f" at least {-(-asked // PAGE_TOKENS)}"
        )
    return asked or min(model_tokens, held)
