"""Word problems of one to three steps: an initial amount, events that change it, a question."""

from __future__ import annotations

from dataclasses import dataclass

from training.skills import arithmetic
from training.skills.dice import Dice
from training.skills.expectation import Expectation
from training.skills.lexicon import Lexicon, plural
from training.skills.sample import Sample, ask
from training.skills.split import Split
from training.skills.wording import pick_wording

STARTS = (
    "{name} [has|owns|starts with|begins with] {a} {things}.",
    "[There are|There were] {a} {things} [on the table|in the box|in the room|in a shop][| of {name}].",
    "{name} [collected|bought|found|made] {a} {things}[| on {day}| this week].",
)
GROUPS = (
    "{name} [has|buys|packs|fills] {a} [boxes|bags|baskets|shelves] [with|of] {b} {things} [each|in each].",
    "[There are|{name} sees] {a} [tables|rows|boxes] with {b} {things} [each|on each].",
    "[Each|Every] [day|hour] {name} [makes|sells] {b} {things}[, for {a} days|. So it goes for {a} days].",
)
GAINS = (
    "[Then |Later |]{other} [gives|brings|sends] {name} {b} more[| {things}].",
    "[Then |Next |]{name} [gets|buys|finds|wins|receives] {b} more[| {things}][| on {day}].",
    "[After that |]{b} more [{things} |]are added.",
)
LOSSES = (
    "[Then |Later |]{name} [gives|sells|lends|sends] {b} [of them|{things}] to {other}.",
    "[Then |Sadly |]{b} [{things}|of them] [are lost|break|disappear|are taken away].",
    "{name} [loses|uses|gives away|throws away] {b}[| of them| {things}].",
)
TIMES = (
    "[Then |]{other} [brings|makes it] {b} times as many.",
    "[After a while|Then|A year later] [there are|{name} has] {b} times as many.",
)
SHARES = (
    "{name} [shares|divides|splits] them [equally|evenly] among {b} [friends|people] and keeps one part.",
    "[They|All of them] are [packed|put] into {b} [equal |]boxes, and {name} takes one[ of them| box|].",
)
QUESTIONS = (
    "How many {things} [does {name} have|are there|are left|does that make][ now| in the end| in total|]?",
    "[What is the number of {things}|How many {things} are there] [now|in the end]?",
)
_EVENTS = {"+": GAINS, "-": LOSSES, "*": TIMES, "/": SHARES}


@dataclass(frozen=True)
class Story:
    """A word problem. `steps` holds the operations in order, each as (a, operator, b)."""

    text: str
    steps: tuple[tuple[int, str, int], ...]

    @property
    def result(self) -> int:
        """The result of the last step."""
        return arithmetic.value(*self.steps[-1])


def make_story(dice: Dice, split: Split, thinking: bool, lexicon: Lexicon) -> Sample:
    """Makes a word problem. Its set of numbers, its names and its wordings each belong to the split."""
    steps = split.draw("steps", lambda: _draw_steps(dice))
    story = Story(_tell(steps, dice, split, lexicon), steps)
    reasoning = " ".join(arithmetic.work(*step) for step in story.steps)
    return Sample(
        "stories",
        ask(story.text, thinking),
        f"The answer is {story.result}.",
        Expectation("last number", (str(story.result),)),
        reasoning if thinking else "",
    )


def _draw_steps(dice: Dice) -> tuple[tuple[int, str, int], ...]:
    operator = dice.pick("++--**/")
    a, b = arithmetic.draw_operands(dice, operator, dice.between(1, 2))
    steps = [(a, operator, b)]
    for _ in range(dice.pick((0, 0, 1, 1, 2))):
        total = arithmetic.value(*steps[-1])
        steps.append(_next_step(total, dice))
    return tuple(steps)


def _next_step(total: int, dice: Dice) -> tuple[int, str, int]:
    operator = dice.pick("++--*/")
    if operator == "*" and total < 100:
        return total, "*", dice.between(2, 4)
    divisors = [divisor for divisor in range(2, 10) if total % divisor == 0 and total // divisor > 1]
    if operator == "/" and divisors:
        return total, "/", dice.pick(divisors)
    if operator == "-" and total > 1:
        return total, "-", dice.between(1, min(total - 1, 99))
    return total, "+", dice.between(1, 99)


def _tell(steps: tuple[tuple[int, str, int], ...], dice: Dice, split: Split, lexicon: Lexicon) -> str:
    name, other = lexicon.names("NAMES", 2, dice, split)
    things = plural(lexicon.word("THINGS", dice))
    day = dice.pick(("Monday", "Tuesday", "Friday", "Sunday"))
    (a, operator, b), *rest = steps
    if operator == "*" and (b > 9 or dice.chance(0.7)):
        sentences = [pick_wording(GROUPS, dice, split).format(a=a, b=b, name=name, things=things, day=day)]
    else:
        start = pick_wording(STARTS, dice, split).format(a=a, name=name, things=things, day=day)
        sentences = [start]
        rest = [(a, operator, b), *rest]
    for _, event, amount in rest:
        wording = pick_wording(_EVENTS[event], dice, split)
        sentences.append(wording.format(b=amount, name=name, other=other, things=things, day=day))
    sentences.append(pick_wording(QUESTIONS, dice, split).format(name=name, things=things))
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
