"""Small talk, and small tasks with the answer in the question: copying, counting, sorting, JSON."""

from __future__ import annotations

import json

from training.skills.dice import Dice
from training.skills.expectation import Expectation
from training.skills.lexicon import Lexicon, invented
from training.skills.sample import Sample, ask
from training.skills.split import Split
from training.skills.wording import pick_wording

HELLO = (
    "[Hi|Hello|Hey|Good morning|Good evening|Good afternoon][!|.||, {name} here.|, I am {name}.]",
    "[Hi|Hello] there[!|.||, I am {name}.]",
    "[Hi|Hello|Hey][,|] how are you[ today|]?",
)
IDENTITY = (
    "[Who|What] are you[, please|]?",
    "[Are you|Is this] [Kimi|Kimi-K2.5|the real Kimi|a person|a big model|ChatGPT]?",
    "[What|Which] [model|AI|language model] [are you|is this|am I talking to]?",
    "[Tell me|Say] [who you are|what you are|your name|something about yourself].",
    "[What is|What's] your name?",
    "[Hi|Hello|Hey][!|,] [who|what] are you?",
)
THANKS = (
    "[Thanks|Thank you|Thanks a lot|Many thanks|Thank you very much][!|.|, that helps.]",
    "[That was|This is] [helpful|great|nice], thank you[!|.]",
)
BYE = ("[Bye|Goodbye|See you|Good night|See you later][!|.|, and thanks.]",)
COPY = (
    "[Repeat|Say|Copy|Write][| exactly| after me| this|: ] {text}",
    "[Repeat|Copy] [these words|this text|the following|this line][:|] {text}",
    "[Say|Write] the following and nothing else: {text}",
    "[Echo|Output][:| this:] {text}",
)
COUNT = (
    "[Count|Please count|Can you count] from {a} to {b}[.|?|]",
    "[List|Write|Give me] [the|all] numbers from {a} to {b}[.|]",
)
COUNT_WORDS = (
    "[How many words are|What is the number of words] in[:| this:] {text}",
    "[Count the|How many] words[:| in this:] {text}",
)
SORT = (
    "[Sort|Order|Arrange] [these numbers|the numbers|these][ from {order}|]: {numbers}",
    "[Put|Bring] [these|these numbers|the numbers] [in order|into order][, {order}|]: {numbers}",
)
JSON_ONE = (
    "[Give me|Write|Return|Make] [JSON|a JSON object] with {fields}[.|]",
    "[Answer|Reply] [in|as|with] JSON: {fields}",
    "[Turn this into|Write as|Convert to] JSON: {fields}",
)
HELLO_ANSWER = "Hello! How can I help you?"
IDENTITY_ANSWER = "I am kimi-nano, a small demonstration model. I am not Kimi."


def make_chatter(dice: Dice, split: Split, thinking: bool, lexicon: Lexicon) -> Sample:
    """Makes greetings, questions about identity, thanks and goodbyes."""
    kind = dice.weighted({"hello": 3, "identity": 5, "thanks": 1, "bye": 1})
    wordings, answer, thought, needle = {
        "hello": (HELLO, HELLO_ANSWER, "The user greets me.", "help you"),
        "identity": (IDENTITY, IDENTITY_ANSWER, "The user asks what I am.", "small demonstration model"),
        "thanks": (THANKS, "You are welcome!", "The user thanks me.", "welcome"),
        "bye": (BYE, "Goodbye!", "The user says goodbye.", "goodbye"),
    }[kind]
    name = lexicon.name("NAMES", dice, split)
    question = pick_wording(wordings, dice, split).format(name=name)
    expect = Expectation("contains", (needle,))
    return Sample("chatter", ask(question, thinking), answer, expect, thought if thinking else "")


def make_copy(dice: Dice, split: Split, thinking: bool, lexicon: Lexicon) -> Sample:
    """Makes words, invented words and numbers to repeat verbatim."""
    text = split.draw("text", lambda: _text(dice, lexicon, dice.between(1, 8)))
    question = pick_wording(COPY, dice, split).format(text=text)
    thought = "I repeat the text." if thinking else ""
    return Sample("copy", ask(question, thinking), text, Expectation("exact", (text,)), thought)


def make_count(dice: Dice, split: Split, thinking: bool, lexicon: Lexicon) -> Sample:
    """Makes a range of numbers to count through, or a text with words to count."""
    if dice.chance(0.5):
        a, b = split.draw("range", lambda: _range(dice))
        question = pick_wording(COUNT, dice, split).format(a=a, b=b)
        answer = ", ".join(map(str, range(a, b + 1)))
        thought = f"I count from {a} to {b}." if thinking else ""
        return Sample("count", ask(question, thinking), answer, Expectation("exact", (answer,)), thought)
    words = split.draw("text", lambda: _text(dice, lexicon, dice.between(2, 9))).split()
    question = pick_wording(COUNT_WORDS, dice, split).format(text=" ".join(words))
    numbered = ", ".join(f"{index} {word}" for index, word in enumerate(words, start=1))
    thought = f"{numbered}." if thinking else ""
    answer = f"There are {len(words)} words." if thinking else f"{numbered}. There are {len(words)} words."
    expect = Expectation("last number", (str(len(words)),))
    return Sample("count", ask(question, thinking), answer, expect, thought)


def make_sort(dice: Dice, split: Split, thinking: bool, lexicon: Lexicon) -> Sample:
    """Makes three to six numbers to sort, in ascending order unless the question asks otherwise."""
    numbers = split.draw("numbers", lambda: tuple(dice.between(0, 99) for _ in range(dice.between(3, 6))))
    wording = pick_wording(SORT, dice, split)
    order = dice.pick(("smallest to largest", "largest to smallest", "low to high", "high to low"))
    falling = "{order}" in wording and order.startswith(("largest", "high"))
    question = wording.format(order=order, numbers=", ".join(map(str, numbers)))
    answer = ", ".join(map(str, sorted(numbers, reverse=falling)))
    thought = f"{'Largest' if falling else 'Smallest'} first." if thinking else ""
    return Sample("sort", ask(question, thinking), answer, Expectation("exact", (answer,)), thought)


def make_json(dice: Dice, split: Split, thinking: bool, lexicon: Lexicon) -> Sample:
    """Makes a JSON object of one to three fields, words or numbers."""
    keys = lexicon.words("COMPUTING", dice.between(1, 3), dice)
    values: dict[str, str | int] = {}
    for key in keys:
        if dice.chance(0.4):
            values[key] = dice.between(0, 999)
        else:
            values[key] = lexicon.name("NAMES", dice, split)
    parts = [f"{key} {value}" for key, value in values.items()]
    fields = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    question = pick_wording(JSON_ONE, dice, split).format(fields=fields)
    answer = json.dumps(values)
    thought = f"The fields are {' and '.join(keys)}." if thinking else ""
    return Sample("json", ask(question, thinking), answer, Expectation("json", (answer,)), thought)


def _text(dice: Dice, lexicon: Lexicon, count: int) -> str:
    words: list[str] = []
    for _ in range(count):
        kind = dice.below(10)
        if kind < 4:
            words.append(invented(dice) if dice.chance(0.5) else invented(dice).capitalize())
        elif kind < 9:
            words.append(lexicon.word(dice.pick(("THINGS", "ADJECTIVES", "COMMON", "ANIMALS")), dice))
        else:
            words.append(str(dice.below(1000)))
    return " ".join(words)


def _range(dice: Dice) -> tuple[int, int]:
    start = dice.between(0, 30)
    return start, start + dice.between(2, 12)
