"""Arithmetic problems without a story: one or two operations, worked in columns."""

from __future__ import annotations

from training.skills import columns
from training.skills.dice import Dice
from training.skills.expectation import Expectation
from training.skills.sample import Sample, ask
from training.skills.split import Split
from training.skills.wording import pick_wording

WORDINGS = (
    "[What is|what is|What's|How much is] {sum}[?|? Think step by step.]",
    "[Calculate|Compute|Work out|Please calculate|Find] {sum}[.|]",
    "{sum} = ?",
    "[Can you tell me what|Tell me what] {sum} [is|equals][.|?]",
    "{sum}",
)
_WORK = {"+": columns.add, "-": columns.subtract, "*": columns.multiply, "/": columns.divide}


def make_arithmetic(dice: Dice, split: Split, thinking: bool) -> Sample:
    """Makes an arithmetic sample; without thinking, only small numbers and one operation."""
    text, result, reasoning = split.draw("sum", lambda: _Sum(*_draw(dice, thinking))).parts
    question = pick_wording(WORDINGS, dice, split).format(sum=text)
    answer = f"{text} = {result}"
    return Sample(
        "arithmetic",
        ask(question, thinking),
        answer,
        Expectation("last number", (str(result),)),
        reasoning if thinking else "",
    )


def work(a: int, operator: str, b: int) -> str:
    """The column working of one operation."""
    return _WORK[operator](a, b)


def value(a: int, operator: str, b: int) -> int:
    """The value of one operation; a division has to have no remainder."""
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operator]


def draw_operands(dice: Dice, operator: str, digits: int) -> tuple[int, int]:
    """Operands of at most `digits` digits; a difference is never negative, and a quotient is an integer."""
    if operator == "*":
        many, digit = dice.between(2, 10 ** min(digits, 2) - 1), dice.between(2, 9)
        return (many, digit) if dice.chance(0.5) else (digit, many)
    if operator == "/":
        divisor = dice.between(2, 9)
        return divisor * dice.between(2, 10 ** min(digits, 2) - 1), divisor
    a, b = (dice.between(1, 10 ** dice.between(1, digits) - 1) for _ in range(2))
    return (max(a, b), min(a, b)) if operator == "-" else (a, b)


class _Sum:
    def __init__(self, text: str, result: int, reasoning: str) -> None:
        self.parts = (text, result, reasoning)

    def __str__(self) -> str:
        return self.parts[0]


def _draw(dice: Dice, thinking: bool) -> tuple[str, int, str]:
    operator = dice.pick("++--*/")
    a, b = draw_operands(dice, operator, dice.between(1, 3) if thinking else 1)
    result = value(a, operator, b)
    text, reasoning = f"{a} {operator} {b}", work(a, operator, b)
    if not thinking or dice.chance(0.65):
        return text, result, reasoning
    follower = dice.pick("+-")
    c = dice.between(1, 99)
    if follower == "-" and c > result:
        follower = "+"
    return f"{text} {follower} {c}", value(result, follower, c), f"{reasoning} {work(result, follower, c)}"
