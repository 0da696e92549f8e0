"""What an absent temperature or top_p means to the model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingDefaults:
    """Values for the controls that a caller leaves out."""

    temperature: float
    top_p: float


# The model card recommends these for chats with and without reasoning.
THINKING = SamplingDefaults(temperature=1.0, top_p=0.95)
INSTANT = SamplingDefaults(temperature=0.6, top_p=0.95)
# For prompts without the chat template.
RAW = SamplingDefaults(temperature=1.0, top_p=0.95)
