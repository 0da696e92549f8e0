"""Kimi K2.5, K2.6 and K2.7-Code: one architecture and one config.json, three ways to hold a conversation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.families.kimi.sampling_defaults import DEFAULTS
from services.families.model_profile import HostedRules, ModelProfile, Suggestion

_REASONING_FIRST = ("reasoning", "reasoning_content")
_HOSTED = HostedRules(max_tokens=32_768, forces_calls=False, wants_all_reasoning=True)

K25 = ModelProfile("k2.5", DEFAULTS)
K26 = ModelProfile("k2.6", DEFAULTS, "asked", reasoning_fields=_REASONING_FIRST, hosted=_HOSTED)
K27_CODE = ModelProfile(
    "k2.7-code", DEFAULTS, "always", always_thinks=True, reasoning_fields=_REASONING_FIRST, hosted=_HOSTED
)
PROFILES = (K25, K26, K27_CODE)

_NAME = re.compile(r"(?<![a-z0-9])k2[._-]?(?P<minor>[567])(?!\d)", re.IGNORECASE)
_BY_MINOR = {"5": K25, "6": K26, "7": K27_CODE}
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_PRESERVES = re.compile(r"\bpreserve_thinking\b")
# Ways to write that an absent switch is on.
_PRESERVES_BY_DEFAULT = re.compile(
    r"\bpreserve_thinking\s*(?:\|\s*default\s*\(\s*true|=\s*true|is\s+(?:undefined|not\s+defined)\s+or\b)",
    re.IGNORECASE,
)
# The variable, not a part of another name, a marker or a key.
_SWITCH = re.compile(r"(?<![\w'\"./<])thinking(?![\w'\"/>])")


def suggest_profile(template: str | None, names: Sequence[str]) -> Suggestion:
    """Suggests by the template's variables; names decide between the profiles that the template leaves."""
    name, named = _named(names)
    if template is None:
        if named is None:
            return Suggestion(K25.name, "no template and no name says otherwise")
        return Suggestion(named.name, f"there is no template, and {name} says so")
    plausible, because = _read(_COMMENT.sub("", template))
    if named in plausible:
        return Suggestion(named.name, f"{because}, and {name} says so")
    if named is not None:
        because = f"{because}, although {name} says {named.name}"
    return Suggestion(plausible[0].name, because)


def _read(template: str) -> tuple[tuple[ModelProfile, ...], str]:
    """Returns the profiles that a template may be of, the likeliest first, and the reason."""
    if _PRESERVES_BY_DEFAULT.search(template):
        return (K27_CODE, K26), "its template has preserve_thinking on by default"
    if _PRESERVES.search(template):
        return (K26, K27_CODE), "its template has preserve_thinking"
    if _SWITCH.search(template):
        return (K25,), "its template has thinking but no preserve_thinking"
    return PROFILES, "its template has no switch for thinking"


def _named(names: Sequence[str]) -> tuple[str, ModelProfile | None]:
    """Returns the first name that names a model, and its profile."""
    for name in names:
        found = _NAME.search(name)
        if found:
            return name, _BY_MINOR[found["minor"]]
    return "", None
