"""Questions to kimi-nano, as the gateway would send them."""

from __future__ import annotations

import random
from pathlib import Path

from services.families.conversation import Conversation, Message, TextPart
from services.families.registry import family_in

_EVERY_LONG = 8
_LONG = "Here is the shopping list again: {a} apples, {b} pears and a loaf of bread. "


def questions(model: Path, count: int) -> list[list[int]]:
    """Token ids of `count` prompts, all different. Every eighth is long: several pages, and more tokens than
    those for which attention is expanded.
    """
    chat, dice = family_in(model).open_chat(model), random.Random(7)
    prompts = []
    for number in range(count):
        a, b = dice.randint(2, 60), dice.randint(2, 60)
        text = f"What is {a} {dice.choice('+-*')} {b}?"
        if number % _EVERY_LONG == _EVERY_LONG - 1:
            text = _LONG.format(a=a, b=b) * 6 + text
        said = Message("user", (TextPart(text),))
        prompts.append(list(chat.render(Conversation((said,), thinking=bool(number % 2))).token_ids))
    return prompts
