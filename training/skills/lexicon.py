"""Names and words from the corpus and invented ones, so that the model learns to copy instead of learning a
list.
"""

from __future__ import annotations

from training.nano.words import load_words
from training.skills.dice import Dice
from training.skills.split import Split

# Entries that occur twice are drawn twice as often.
_ONSETS = (
    *"bcdfghjklmnprstvwyzbdfgklmnrst",
    *("br", "ch", "cr", "dr", "fl", "gr", "pr", "sh", "st", "th", "tr"),
)
_VOWELS = (*"aeiouaeiouaeiou", "ai", "ea", "ee", "ie", "oo", "ou")
_CODAS = (*"lmnrstdkxnrs", "ck", "ll", "nd", "ng", "st")
INVENTED_SHARE = 0.6
_OWNER_SHARE = 0.4


class Lexicon:
    """Draws from the word lists of `training/nano/words.txt`."""

    def __init__(self) -> None:
        self._words = load_words()

    def word(self, theme: str, dice: Dice) -> str:
        """A word of the list `theme`, such as THINGS."""
        return dice.pick(self._words[theme])

    def words(self, theme: str, count: int, dice: Dice) -> list[str]:
        """`count` different words of the list `theme`."""
        return dice.some(sorted(set(self._words[theme])), count)

    def name(self, theme: str, dice: Dice, split: Split) -> str:
        """A proper name, from the list (NAMES, CITIES, ...) or invented, that belongs to the split."""
        return split.draw("name", lambda: self._name(theme, dice))

    def shop(self, dice: Dice, split: Split) -> str:
        """A shop's name, such as Red Lion, or a proper name."""
        if dice.chance(_OWNER_SHARE):
            return self.name("NAMES", dice, split)
        return split.draw("shop", lambda: self._sign(dice))

    def names(self, theme: str, count: int, dice: Dice, split: Split) -> list[str]:
        """`count` different proper names."""
        found: list[str] = []
        while len(found) < count:
            name = self.name(theme, dice, split)
            if name not in found:
                found.append(name)
        return found

    def _sign(self, dice: Dice) -> str:
        return f"{self.word('COLOURS', dice)} {self.word('ANIMALS', dice)}".title()

    def _name(self, theme: str, dice: Dice) -> str:
        if not dice.chance(INVENTED_SHARE):
            return self.word(theme, dice)
        name = invented(dice).capitalize()
        return f"{name} {invented(dice).capitalize()}" if theme == "CITIES" and dice.chance(0.1) else name


def invented(dice: Dice) -> str:
    """An invented word of two or three syllables, which resembles no particular word."""
    syllables = dice.between(2, 3)
    text = ""
    for index in range(syllables):
        text += dice.pick(_ONSETS) if index or dice.chance(0.85) else ""
        text += dice.pick(_VOWELS)
        if dice.chance(0.6 if index == syllables - 1 else 0.15):
            text += dice.pick(_CODAS)
    return text


def plural(noun: str) -> str:
    """The plural of a regular English noun."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    if noun.endswith("f"):
        return f"{noun[:-1]}ves"
    return f"{noun}s"
