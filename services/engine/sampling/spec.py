"""Sampling controls of one request."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from perigee.v1 import sampling_pb2
from services.common.sampling.controls import BY_NAME
from services.common.sampling.params import check


@dataclass(frozen=True)
class SamplingSpec:
    """The sampling controls that apply to each token, with every default filled in. A field has its control's
    name in the table of controls and in perigee.v1.SamplingParams.

    logit_bias: (token id, addend) pairs, ids distinct. stop_token_ids: all ids that end a choice, including
    the model's own unless ignore_eos; here they matter only for min_tokens.
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

    @classmethod
    def from_proto(cls, params: sampling_pb2.SamplingParams, vocab_size: int) -> SamplingSpec:
        """Replaces what is absent by defaults. Raises InvalidRequest, which names the control, for a value
        out of range, also of a control that is no field here.
        """
        check(params, vocab_size)
        return cls(**{each.name: BY_NAME[each.name].value(params) for each in fields(cls)})

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken, without a draw."""
        return self.temperature == 0.0

    @property
    def adjusts(self) -> bool:
        """Whether every token is chosen from other logits than the model's."""
        return self.counts_output or self.counts_prompt or bool(self.logit_bias)

    @property
    def counts_output(self) -> bool:
        """Whether it matters how often a token was generated."""
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def counts_prompt(self) -> bool:
        """Whether it matters that a token occurs in prompt or output."""
        return self.repetition_penalty != 1.0
