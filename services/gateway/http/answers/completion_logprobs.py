"""Log-probabilities in the shape of OpenAI's older route."""

from __future__ import annotations

from collections.abc import Container, Sequence

from perigee.v1 import generation_pb2, sampling_pb2
from services.families.text.detokenizer import Detokenizer
from services.families.tokenizer import Tokenizer
from services.gateway.http.shapes.completion import CompletionLogprobs

# The first bytes in UTF-8 of what goes on with a character lie from here up to the next.
_CONTINUING, _LEADING = b"\x80", b"\xc0"


class CompletionLogprobsBuilder:
    """Builds one choice's log-probabilities: four parallel lists, with each token's offset in the text.

    First `echoed`, if its prompt is echoed with them, then `of` for the tokens that follow.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool, verbatim_prompt: bool = False) -> None:
        """`skip_special`: the text leaves out tokens that are flagged special; `verbatim_prompt`: but the
        prompt is echoed with them, as the caller wrote it.
        """
        hidden = tokenizer.flagged_ids if skip_special else ()
        self._prompt = _Offsets(tokenizer, () if verbatim_prompt else hidden)
        self._text = _Offsets(tokenizer, hidden)

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
            text_offset=[self._text.of(position.sampled.token_id) for position in positions],
        )

    def echoed(self, tokens: Sequence[generation_pb2.PromptTokenLogprob], top: int) -> CompletionLogprobs:
        """The lists for the prompt, each token with its `top` likeliest alternatives."""
        offsets = [self._prompt.of(position.token.token_id) for position in tokens]
        self._text.begin_at(self._prompt.end())
        return CompletionLogprobs(
            tokens=[_spelt(position.token) for position in tokens],
            token_logprobs=[position.token.logprob if position.scored else None for position in tokens],
            top_logprobs=[
                {_spelt(token): token.logprob for token in (*position.top[:top], position.token)}
                if position.scored
                else None
                for position in tokens
            ],
            text_offset=offsets,
        )


class _Offsets:
    """Where each token of a text begins, in characters.

    A token that ends a character begins where that does. `hidden`: ids without text.
    """

    def __init__(self, tokenizer: Tokenizer, hidden: Container[int]) -> None:
        self._tokenizer = tokenizer
        self._hidden = hidden
        self._detokenizer = Detokenizer(tokenizer, hidden)
        self._certain = 0

    def begin_at(self, offset: int) -> None:
        """The text follows another one, which ends there."""
        self._certain = offset

    def of(self, token_id: int) -> int:
        """The offset of the next token."""
        place = self._certain
        if self._detokenizer.inside and token_id not in self._hidden:
            # What does not go on with the character leaves it broken: U+FFFD is before the token.
            place += not _CONTINUING <= self._tokenizer.token_bytes(token_id)[:1] < _LEADING
        self._certain += len(self._detokenizer.feed(token_id))
        return place

    def end(self) -> int:
        """The length of the whole text."""
        self._certain += len(self._detokenizer.flush())
        return self._certain


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
