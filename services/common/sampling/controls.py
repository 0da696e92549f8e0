"""The table of sampling controls: everything about a control but what it does.

Doors, gateway and decode worker read names, ranges and defaults here. CONTRIBUTING.md says what else a new
control needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from services.common.sampling.control import (
    AppliesTo,
    Control,
    Door,
    Flag,
    Number,
    Range,
    Texts,
    TokenIds,
    TokenNumbers,
)

MAX_CHOICES = 16
MOST_INT32, _MOST_UINT64 = (1 << 31) - 1, (1 << 64) - 1
MOST_TOP_LOGPROBS = 20
TOP_LOGPROBS = Range(0, MOST_TOP_LOGPROBS)
_TOKEN, _CHOICES, _TEXT = AppliesTo.TOKEN, AppliesTo.CHOICES, AppliesTo.TEXT


def _sglang(name: str) -> Mapping[Door, str]:
    return MappingProxyType({"sglang": name})


def _routes(sglang: str = "") -> Mapping[Door, str]:
    """The routes of OpenAI's door declare it themselves."""
    return MappingProxyType({"openai": "", "sglang": sglang})


def _unlimited(top_k: int) -> int:
    """-1 is how the engines' clients spell "no limit"."""
    return 0 if top_k == -1 else top_k


def _limited(max_tokens: int) -> int:
    """More than any context holds is how clients spell "no limit", whatever the field can carry."""
    return min(max_tokens, MOST_INT32)


def _unsigned(seed: int) -> int:
    """OpenAI's seed is a signed 64-bit number; the key of the generator is unsigned."""
    return seed + (1 << 64) if -(1 << 63) <= seed < 0 else seed


CONTROLS: tuple[Control, ...] = (
    Number("temperature", _TOKEN, Range(0.0, 2.0), default=1.0),
    Number("top_p", _TOKEN, Range(0.0, 1.0, open_low=True), default=0.95),
    Number("top_k", _TOKEN, Range(0, MOST_INT32), int, default=0, normalise=_unlimited, json_low=-1),
    Number("min_p", _TOKEN, Range(0.0, 1.0), default=0.0),
    Number("presence_penalty", _TOKEN, Range(-2.0, 2.0), default=0.0),
    Number("frequency_penalty", _TOKEN, Range(-2.0, 2.0), default=0.0),
    Number("repetition_penalty", _TOKEN, Range(0.0, 2.0, open_low=True), default=1.0),
    TokenNumbers("logit_bias", _TOKEN, Range(-100.0, 100.0), most=1024),
    Number(
        "seed", _CHOICES, Range(0, _MOST_UINT64), int, normalise=_unsigned, json_low=-(1 << 63),
        spelling=_sglang("sampling_seed"),
    ),
    Number("n", _CHOICES, Range(1, MAX_CHOICES), int, default=1),
    Number(
        "max_tokens", _CHOICES, Range(0, math.inf), int, normalise=_limited,
        spelling=_routes("max_new_tokens"),
    ),
    Number(
        "min_tokens", _TOKEN, Range(0, MOST_INT32), int, default=0, spelling=_sglang("min_new_tokens")
    ),
    Flag("ignore_eos", _CHOICES),
    Texts("stop", _TEXT, 256, most=16),
    TokenIds("stop_token_ids", _TOKEN, most=64),
    Flag("logprobs", _TOKEN, spelling=_routes()),
    Number("top_logprobs", _TOKEN, TOP_LOGPROBS, int, default=0, spelling=_routes()),
    Flag(
        "keep_special_tokens", _TEXT, inverted=True,
        spelling=MappingProxyType(dict.fromkeys(("openai", "sglang"), "skip_special_tokens")),
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Control] = MappingProxyType({control.name: control for control in CONTROLS})
