"""A reader who knows only the words for what happens comes to the same answer."""

from __future__ import annotations

import re

from training.skills.dice import Dice
from training.skills.lexicon import Lexicon
from training.skills.split import Split
from training.skills.stories import make_story

LEXICON = Lexicon()
LOSS = ("sells", "gives", "lends", "sends", "lost", "break", "disappear", "taken", "loses", "uses", "throws")
SHARE = ("shares", "divides", "splits", "packed", "put into")


def read(question):
    """The result of a story, sentence by sentence."""
    total = None
    for sentence in re.split(r"(?<=[.?]) ", question):
        numbers = list(map(int, re.findall(r"\d+", sentence)))
        if not numbers:
            continue
        if total is None and len(numbers) == 2:
            total = numbers[0] * numbers[1]
        elif total is None:
            total = numbers[0]
            waiting = "Each" in sentence or "Every" in sentence
        elif waiting or "times as many" in sentence:
            total, waiting = total * numbers[0], False
        elif "more" in sentence.lower().split() or "more." in sentence:
            total += numbers[0]
        elif any(word in sentence for word in SHARE):
            assert total % numbers[0] == 0
            total //= numbers[0]
        else:
            assert any(word in sentence for word in LOSS), sentence
            total -= numbers[0]
        if len(numbers) == 2:
            waiting = False
    return total


def test_the_answer_follows_from_the_story():
    for number in range(300):
        sample = make_story(Dice("story", number), Split.TRAIN, True, LEXICON)
        question = sample.conversation.messages[0].content[0].text
        assert sample.answer == f"The answer is {read(question)}.", question
        assert sample.reasoning.endswith(f" = {read(question)}.")
