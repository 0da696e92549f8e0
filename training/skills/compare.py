"""Comparison of two numbers: whole parts digit by digit, then decimals padded to the same length."""

from __future__ import annotations

from training.skills.dice import Dice
from training.skills.expectation import Expectation
from training.skills.numerals import Numeral
from training.skills.sample import Sample, ask
from training.skills.split import Split
from training.skills.wording import pick_wording

_BIGGER = "[bigger|larger|greater|higher]"
_SMALLER = "[smaller|lower|less]"
WORDINGS = tuple(
    pattern.replace("COMPARATIVE", comparative)
    for comparative in (_BIGGER, _BIGGER, _SMALLER)
    for pattern in (
        "[Which|which][| one] is COMPARATIVE[,|:] {x} or {y}?[| think carefully.| Think carefully.]",
        "[Which|which] [number|value|of the two|of these|of these numbers] is COMPARATIVE[:|,] {x} or {y}?",
        "[Is|is] {x} or {y} [the |]COMPARATIVE[ one| number|]?[ Please think.|]",
        "{x} [and|or|vs|versus] {y}[:|,] which [one |number |]is COMPARATIVE?",
        "[Tell me|Please say|Decide] which is COMPARATIVE[,|:] {x} or {y}.",
        "[Compare|compare] {x} [and|with] {y}[.|:] Which [one |]is COMPARATIVE?",
        "[What|what] is COMPARATIVE[,|:] {x} or {y}?",
    )
)
_COMPARATIVES = ("bigger", "larger", "greater", "higher", "smaller", "lower", "less")


def make_compare(dice: Dice, split: Split, thinking: bool) -> Sample:
    """Makes a one-turn question; if the numbers are equal, the answer says so."""
    wording = pick_wording(WORDINGS, dice, split)
    x, y = split.draw("pair", lambda: _Pair(*draw_pair(dice))).numerals
    comparative = next(word for word in _COMPARATIVES if word in wording)
    places = max(len(x.decimals), len(y.decimals))
    if x.key(places) == y.key(places):
        answer, expect = "They are equal.", Expectation("contains", ("equal",))
        verdict = "They are equal."
    else:
        high, low = (x, y) if x.key(places) > y.key(places) else (y, x)
        first = low if comparative in ("smaller", "lower", "less") else high
        answer = f"{first} is {comparative}."
        verdict = f"So the {'first' if first is x else 'second'}, {first}, is {comparative}."
        expect = Expectation("first number", (str(first),))
    reasoning = f"{work(x, y)} {verdict}" if thinking else ""
    question = wording.format(x=x, y=y)
    return Sample("compare", ask(question, thinking), answer, expect, reasoning)


def work(x: Numeral, y: Numeral) -> str:
    """The steps that compare two numerals; each step looks at one pair of digits."""
    if len(x.whole) != len(y.whole):
        sign = ">" if len(x.whole) > len(y.whole) else "<"
        return f"Whole parts {x.whole} and {y.whole}: {len(x.whole)} digits {sign} {len(y.whole)} digits."
    text = f"Whole parts {x.whole} and {y.whole}: {_digits(x.whole, y.whole)}."
    if x.whole != y.whole or not (x.decimals or y.decimals):
        return text
    places = max(len(x.decimals), len(y.decimals))
    a, b = x.padded(places), y.padded(places)
    return f"{text} Decimals {a} and {b}: {_digits(a, b)}."


def draw_pair(dice: Dice) -> tuple[Numeral, Numeral]:
    """Draws two numerals, often with the same whole part, often with different numbers of decimals, seldom
    equal.
    """
    kind = dice.below(10)
    if kind < 3:
        return Numeral(_whole(dice, 5)), Numeral(_whole(dice, 5))
    if kind < 4:
        whole = _whole(dice, 4)
        return Numeral(whole), Numeral(_near(dice, whole))
    x = Numeral(_whole(dice, 3), _decimals(dice))
    if kind < 8:
        y = Numeral(x.whole, _decimals(dice) if dice.chance(0.9) else x.decimals + "0")
    elif kind < 9:
        y = Numeral(x.whole if dice.chance(0.5) else _whole(dice, 3))
    else:
        y = Numeral(_near(dice, x.whole), _decimals(dice))
    return (x, y) if dice.chance(0.5) else (y, x)


class _Pair:
    """A pair of numbers; both orders are the same case."""

    def __init__(self, x: Numeral, y: Numeral) -> None:
        self.numerals = (x, y)

    def __str__(self) -> str:
        return " ".join(sorted(map(str, self.numerals)))


def _digits(a: str, b: str) -> str:
    """Compares digit by digit up to the first difference."""
    steps: list[str] = []
    for left, right in zip(a, b, strict=True):
        sign = "=" if left == right else "<" if left < right else ">"
        steps.append(f"{left} {sign} {right}")
        if sign != "=":
            break
    return ", ".join(steps)


def _whole(dice: Dice, most_digits: int) -> str:
    digits = dice.between(1, most_digits)
    return str(dice.between(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1))


def _decimals(dice: Dice) -> str:
    return "".join(str(dice.below(10)) for _ in range(dice.between(1, 3)))


def _near(dice: Dice, whole: str) -> str:
    """`whole` with one digit changed; the first digit stays one that may lead."""
    place = dice.below(len(whole))
    digit = str(dice.between(1, 9) if place == 0 and len(whole) > 1 else dice.below(10))
    return whole[:place] + digit + whole[place + 1 :]
