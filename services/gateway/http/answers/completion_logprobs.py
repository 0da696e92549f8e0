"""Log-probabilities in the shape of OpenAI's older route."""

from __future__ import annotations

from collections.abc import Sequence

from perigee.v1 import generation_pb2, sampling_pb2
from services.families.text.detokenizer import Detokenizer
from services.families.tokenizer import Tokenizer
from services.gateway.http.shapes.completion import CompletionLogprobs


class CompletionLogprobsBuilder:
    """Builds one choice's log-probabilities: four parallel lists, with each token's offset in the text.

    First `echoed`, if its prompt is echoed with them, then `of` for the tokens that follow.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool) -> None:
        self._detokenizer = Detokenizer(tokenizer, tokenizer.flagged_ids if skip_special else ())
        self._offset = 0

    def of(self, positions: Sequence[sampling_pb2.PositionLogprobs]) -> CompletionLogprobs | None:
        """The lists for the next tokens; None if there are none."""
        if not positions:
            return None
        return CompletionLogprobs(
            tokens=[_spelt(position.sampled) for position in positions],
            token_logprobs=[position.sampled.logprob for position in positions],
            top_logprobs=[
                {_spelt(token): token.logprob for token in (*position.top, position.sampled)}
                for position in positions
            ],
            text_offset=[self._place(position.sampled.token_id) for position in positions],
        )

    def echoed(self, tokens: Sequence[generation_pb2.PromptTokenLogprob], top: int) -> CompletionLogprobs:
        """The lists for the prompt, each token with its `top` likeliest alternatives."""
        return CompletionLogprobs(
            tokens=[_spelt(position.token) for position in tokens],
            token_logprobs=[position.token.logprob if position.scored else None for position in tokens],
            top_logprobs=[
                {_spelt(token): token.logprob for token in (*position.top[:top], position.token)}
                if position.scored
                else None
                for position in tokens
            ],
            text_offset=[self._place(position.token.token_id) for position in tokens],
        )

    def _place(self, token_id: int) -> int:
        place = self._offset
        self._offset += len(self._detokenizer.feed(token_id))
        return place


def joined(first: CompletionLogprobs, then: CompletionLogprobs | None) -> CompletionLogprobs:
    """The lists of an echoed prompt, and after them those of what follows it, if there are any."""
    if then is None:
        return first
    return CompletionLogprobs(
        first.tokens + then.tokens,
        first.token_logprobs + then.token_logprobs,
        first.top_logprobs + then.top_logprobs,
        first.text_offset + then.text_offset,
    )


def _spelt(token: sampling_pb2.TokenLogprob) -> str:
    """The token's text; for bytes that are not UTF-8, their values, so that no two tokens look the same."""
    try:
        return token.token_bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.token_bytes)
