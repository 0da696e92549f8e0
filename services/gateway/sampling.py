"""Sampling controls as the caller gave them: ranges, defaults, and the form the decode worker gets."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest
from services.families.kimi.sampling_defaults import SamplingDefaults

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_STOP_IDS = 64
MAX_BIASES = 1024
MAX_TOP_LOGPROBS = 20

# How the caller's door spells a control of SamplingOptions, for errors.
FieldName = Callable[[str], str]


@dataclass(frozen=True)
class SamplingOptions:
    """The controls of perigee.v1.SamplingParams; None means absent, and every default means the default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    skip_special_tokens: bool = True


def validate(options: SamplingOptions, vocab_size: int, name: FieldName) -> None:
    """Raises InvalidRequest naming the first control that is out of its range."""
    _within(options.temperature, 0.0, 2.0, name("temperature"))
    _within(options.top_p, 0.0, 1.0, name("top_p"), open_low=True)
    _within(options.top_k, 0, (1 << 31) - 1, name("top_k"))
    _within(options.min_p, 0.0, 1.0, name("min_p"))
    _within(options.presence_penalty, -2.0, 2.0, name("presence_penalty"))
    _within(options.frequency_penalty, -2.0, 2.0, name("frequency_penalty"))
    _within(options.repetition_penalty, 0.0, 2.0, name("repetition_penalty"), open_low=True)
    _within(options.seed, 0, (1 << 64) - 1, name("seed"))
    _within(options.n, 1, MAX_CHOICES, name("n"))
    _within(options.max_tokens, 0, (1 << 31) - 1, name("max_tokens"))
    most = (1 << 31) - 1 if options.max_tokens is None else options.max_tokens
    _within(options.min_tokens, 0, most, name("min_tokens"))
    _within(options.top_logprobs, 0, MAX_TOP_LOGPROBS, name("top_logprobs"))
    if options.top_logprobs and not options.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", name("top_logprobs"))
    _validate_lists(options, vocab_size, name)


def _validate_lists(options: SamplingOptions, vocab_size: int, name: FieldName) -> None:
    if len(options.stop) > MAX_STOPS:
        raise InvalidRequest(f"at most {MAX_STOPS} stop strings, {len(options.stop)} given", name("stop"))
    for text in options.stop:
        if not 1 <= len(text) <= MAX_STOP_CHARACTERS:
            raise InvalidRequest(
                f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters, one has {len(text)}", name("stop")
            )
    if len(options.stop_token_ids) > MAX_STOP_IDS:
        raise InvalidRequest(
            f"at most {MAX_STOP_IDS} ids, {len(options.stop_token_ids)} given", name("stop_token_ids")
        )
    for token_id in options.stop_token_ids:
        _within(token_id, 0, vocab_size - 1, name("stop_token_ids"))
    if len(options.logit_bias) > MAX_BIASES:
        raise InvalidRequest(
            f"at most {MAX_BIASES} entries, {len(options.logit_bias)} given", name("logit_bias")
        )
    for token_id, bias in options.logit_bias.items():
        _within(token_id, 0, vocab_size - 1, name("logit_bias"))
        _within(bias, -100.0, 100.0, name("logit_bias"))


def _within(value: float | None, low: float, high: float, param: str, *, open_low: bool = False) -> None:
    if value is None:
        return
    # Written so that NaN fails too; whole numbers of any size compare, but not all become floats.
    if not ((low < value if open_low else low <= value) and value <= high):
        bracket = "(" if open_low else "["
        raise InvalidRequest(f"{param} is {value}; it must be in {bracket}{low}, {high}]", param)


def resolve(
    options: SamplingOptions, defaults: SamplingDefaults, max_tokens: int, stop_ids: frozenset[int]
) -> sampling_pb2.SamplingParams:
    """The explicit form a Submit carries: every default filled in, a seed drawn if none was given.

    `max_tokens`: what is left of the context, or less. `stop_ids`: the tokenizer's, which end a choice unless
    ignore_eos. Stop strings are left out: the gateway applies them.
    """
    ends = set(options.stop_token_ids) | (set() if options.ignore_eos else stop_ids)
    return sampling_pb2.SamplingParams(
        temperature=defaults.temperature if options.temperature is None else options.temperature,
        top_p=defaults.top_p if options.top_p is None else options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        repetition_penalty=1.0 if options.repetition_penalty is None else options.repetition_penalty,
        logit_bias=dict(options.logit_bias),
        seed=secrets.randbits(64) if options.seed is None else options.seed,
        n=options.n,
        max_tokens=max_tokens,
        min_tokens=options.min_tokens,
        ignore_eos=options.ignore_eos,
        stop_token_ids=sorted(ends),
        logprobs=options.logprobs,
        top_logprobs=options.top_logprobs,
    )
