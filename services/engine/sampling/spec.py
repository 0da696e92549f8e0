"""How one request wants its tokens chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.common.errors import InvalidRequest

MAX_TOP_LOGPROBS = 20


@dataclass(frozen=True)
class SamplingSpec:
    """Sampling controls with no value left to the model's defaults. Fields as in perigee.v1.SamplingParams.

    logit_bias: (token id, addend) pairs, ids distinct. stop_token_ids: all ids that end a choice, the
    model's own included unless ignore_eos; here they matter only for min_tokens. InvalidRequest names a
    field out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = field(default_factory=frozenset)
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        self._require(0.0 <= self.temperature <= 2.0, "temperature", "must be 0 to 2")
        self._require(0.0 < self.top_p <= 1.0, "top_p", "must be above 0 and at most 1")
        self._require(self.top_k >= 0, "top_k", "must not be negative")
        self._require(0.0 <= self.min_p <= 1.0, "min_p", "must be 0 to 1")
        for name in ("presence_penalty", "frequency_penalty"):
            self._require(-2.0 <= getattr(self, name) <= 2.0, name, "must be -2 to 2")
        self._require(
            0.0 < self.repetition_penalty <= 2.0, "repetition_penalty", "must be above 0, at most 2"
        )
        self._require(self.min_tokens >= 0, "min_tokens", "must not be negative")
        self._require(0 <= self.top_logprobs <= MAX_TOP_LOGPROBS, "top_logprobs", f"0 to {MAX_TOP_LOGPROBS}")
        in_range = all(-100.0 <= addend <= 100.0 for _, addend in self.logit_bias)
        self._require(in_range, "logit_bias", "values must be -100 to 100")
        distinct = len({token_id for token_id, _ in self.logit_bias}) == len(self.logit_bias)
        self._require(distinct, "logit_bias", "names a token twice")

    def check_vocabulary(self, vocab_size: int) -> None:
        """InvalidRequest when a token id named here is not one of the model's."""
        for name, token_ids in (
            ("logit_bias", [token_id for token_id, _ in self.logit_bias]),
            ("stop_token_ids", sorted(self.stop_token_ids)),
        ):
            for token_id in token_ids:
                valid = 0 <= token_id < vocab_size
                self._require(valid, name, f"token id {token_id} is outside 0 to {vocab_size - 1}")

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken, without a draw."""
        return self.temperature == 0.0

    @property
    def counts_output(self) -> bool:
        """Whether how often a token was generated matters."""
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def counts_prompt(self) -> bool:
        """Whether it matters that a token occurs in prompt or output."""
        return self.repetition_penalty != 1.0

    @staticmethod
    def _require(holds: bool, param: str, message: str) -> None:
        if not holds:
            raise InvalidRequest(f"{param}: {message}", param)
