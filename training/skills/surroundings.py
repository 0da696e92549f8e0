"""Optional context before a question: a system prompt, or an earlier question with its answer."""

from __future__ import annotations

from dataclasses import replace

from services.families.conversation import Message, TextPart
from training.skills.dice import Dice
from training.skills.sample import Sample
from training.skills.split import Split
from training.skills.wording import pick_wording

SYSTEM = (
    "You are [a|an] [helpful|friendly|useful|honest] assistant[.|]",
    "[Answer|Reply] [briefly|in one sentence|politely][.|, please.]",
    "[Help|Assist] the user[.| with care.]",
)
SYSTEM_SHARE = 0.1
EARLIER_SHARE = 0.1


def with_system(sample: Sample, dice: Dice, split: Split) -> Sample:
    """The sample after a system prompt, which asks for nothing that would change the answer."""
    prompt = Message("system", (TextPart(pick_wording(SYSTEM, dice, split)),))
    return _behind(sample, (prompt,))


def with_earlier(sample: Sample, earlier: Sample) -> Sample:
    """The sample after another one-turn question and its answer."""
    answer = Message("assistant", (TextPart(earlier.answer),))
    return _behind(sample, (*earlier.conversation.messages, answer))


def _behind(sample: Sample, turns: tuple[Message, ...]) -> Sample:
    messages = (*turns, *sample.conversation.messages)
    return replace(sample, conversation=sample.conversation.with_messages(messages))
