"""Published models that share a family and its checkpoint format, and what differs between them in a chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from services.families.sampling_defaults import ModeDefaults


@dataclass(frozen=True)
class HostedRules:
    """Rules of the vendor's own API for this model, which a gateway applies only if it is told to.

    `max_tokens`: what an absent one means; 0: all that the context leaves. `forces_calls`: whether a call may
    be demanded while the model thinks. `wants_all_reasoning`: whether every past message with calls needs its
    reasoning, or only those of the open tool round.
    """

    max_tokens: int = 0
    forces_calls: bool = True
    wants_all_reasoning: bool = False


@dataclass(frozen=True)
class ModelProfile:
    """One published model of a family.

    `name`: as settings spell it. `defaults`: recommended sampling. `preserving`: when the reasoning of all
    past turns is in the prompt, and not only that of the open tool round: never, if the request asks for it,
    or always. `always_thinks`: whether reasoning cannot be switched off. `reasoning_fields`: where a JSON
    body's message has past reasoning: the first one present counts.
    """

    name: str
    defaults: ModeDefaults
    preserving: Literal["never", "asked", "always"] = "never"
    always_thinks: bool = False
    reasoning_fields: tuple[str, ...] = ("reasoning_content", "reasoning")
    hosted: HostedRules = field(default_factory=HostedRules)


@dataclass(frozen=True)
class Suggestion:
    """A profile by its name, and the reason, as a phrase for a log."""

    name: str
    because: str


# From the text of a checkpoint's own template (None: it has none), and names of the checkpoint, the most
# telling first.
SuggestProfile: TypeAlias = Callable[[str | None, Sequence[str]], Suggestion]
