"""What an absent temperature or top_p means to the model."""

from __future__ import annotations

from services.families.sampling_defaults import ModeDefaults, SamplingDefaults

# The model card recommends these for chats with and without reasoning.
THINKING = SamplingDefaults(temperature=1.0, top_p=0.95)
INSTANT = SamplingDefaults(temperature=0.6, top_p=0.95)
# For prompts without the chat template.
RAW = SamplingDefaults(temperature=1.0, top_p=0.95)
DEFAULTS = ModeDefaults(THINKING, INSTANT, RAW)
