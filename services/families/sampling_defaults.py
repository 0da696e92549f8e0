"""What an absent temperature or top_p means to a model."""

from __future__ import annotations

from dataclasses import dataclass

from services.families.conversation import Conversation


@dataclass(frozen=True)
class SamplingDefaults:
    """Values for the controls that a caller leaves out."""

    temperature: float
    top_p: float


@dataclass(frozen=True)
class ModeDefaults:
    """The defaults of chats with and without reasoning, and of prompts without the chat template."""

    thinking: SamplingDefaults
    instant: SamplingDefaults
    raw: SamplingDefaults

    def of(self, conversation: Conversation | None) -> SamplingDefaults:
        """The defaults of a chat; None: of a prompt without the template."""
        if conversation is None:
            return self.raw
        return self.thinking if conversation.thinking else self.instant
