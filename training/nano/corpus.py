"""Training text for the small tokenizer, from our own templates and word lists; the same for the
same seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TypeVar

from training.nano.phrases import GREETINGS, REASONING, SENTENCES, SNIPPETS
from training.nano.words import load_words

T = TypeVar("T")


class Corpus:
    """Iterates over `num_documents` documents of mixed kinds."""

    def __init__(self, seed: int, num_documents: int) -> None:
        self._random = Random(seed)
        self._num_documents = num_documents
        self._words = load_words()

    def __iter__(self) -> Iterator[str]:
        # Every word occurs on its own once, so that none depends on the draw.
        for vocabulary in self._words.values():
            for word in vocabulary:
                yield f"{word} {word} {word.capitalize()} {word} {word}"
        kinds: Sequence[Callable[[], str]] = (
            self.sentence, self.sentence, self.sentence, self.talk, self.sum, self.receipt, self.declaration,
            self.call, self.snippet, self.chatter, self.role,
        )  # fmt: skip
        for index in range(self._num_documents):
            yield kinds[index % len(kinds)]()

    def sentence(self) -> str:
        """Two sentences with words filled in."""
        return f"{self._fill(self._pick(SENTENCES))} {self._fill(self._pick(SENTENCES))}"

    def chatter(self) -> str:
        """Common words in random order."""
        return " ".join(self._word("COMMON") for _ in range(12))

    def role(self) -> str:
        """A word of the chat format with no text before it, as after a special token."""
        return self._word("ROLES")

    def talk(self) -> str:
        """A greeting, a question, a thought, an answer."""
        lines = (self._pick(GREETINGS), self._pick(SENTENCES), self._pick(REASONING), self._pick(SENTENCES))
        return "\n".join(self._fill(line) for line in lines)

    def sum(self) -> str:
        """A worked arithmetic problem."""
        a, b = self._number(100), self._number(100)
        name, thing = self._word("NAMES"), self._word("THINGS")
        return (
            f"What is {a} + {b}? Let me add: {a} + {b} = {a + b}. The answer is {a + b}.\n"
            f"{name} has {a} {thing}s and buys {b} more. How many {thing}s does {name} have now?\n"
            f"{a} * {b} = {a * b}, {a} - {b} = {a - b}, so the result is {a * b}. \\boxed{{{a}}} #### {b}"
        )

    def receipt(self) -> str:
        """A bill in the form that a shop prints."""
        items = [(self._word("FOODS"), self._number(9) + 1, self._number(900)) for _ in range(3)]
        lines = [f"{count} x {food:<12} {price / 100:>6.2f}" for food, count, price in items]
        total = sum(count * price for _, count, price in items) / 100
        return "\n".join(("RECEIPT", *lines, "-" * 20, f"Total: ${total:.2f}", "Thank you for your visit!"))

    def declaration(self) -> str:
        """Tool declarations in the chat format."""
        verb, noun = self._word("VERBS"), self._word("COMPUTING")
        field, other = self._word("COMPUTING"), self._word("THINGS")
        return (
            "# Tools\n\n## functions\nnamespace functions {\n"
            f"// {verb.capitalize()} the {noun}.\ntype {verb}_{noun} = (_: {{\n"
            f"  // The {field} to {verb}\n  // maximum: {self._number(9)}, minimum: 1\n  {field}: string,\n"
            f'  // Default: "{other}"\n  {other}?: "{other}" | "{noun}",\n  tags?: Array<string>,\n'
            "  count?: number,\n  verbose?: boolean\n}) => any;\n}\n"
        )

    def call(self) -> str:
        """A tool call and its result, as JSON and in the chat format."""
        verb, noun = self._word("VERBS"), self._word("COMPUTING")
        arguments = {noun: self._word("CITIES"), "count": self._number(20), "ok": True}
        schema = {"type": "object", "properties": {noun: {"type": "string", "description": "The " + noun}}}
        return (
            f"functions.{verb}_{noun}:{self._number(5)}{json.dumps(arguments)}\n"
            f"## Return of functions.{verb}_{noun}:{self._number(5)}\n{json.dumps({'result': noun})}\n"
            f"{json.dumps({'name': verb, 'parameters': schema}, indent=2)}"
        )

    def snippet(self) -> str:
        """A few lines of a programming language or markup."""
        return self._fill(self._pick(SNIPPETS))

    def _fill(self, template: str) -> str:
        """Replaces each `<LIST>` by a word of that list and each `<N>` by a number, from left to right."""
        head, *rest = template.split("<")
        for part in rest:
            key, mark, tail = part.partition(">")
            if mark and key == "N":
                head += f"{self._number(1000)}{tail}"
            elif mark and key in self._words:
                head += self._pick(self._words[key]) + tail
            else:
                head += "<" + part
        return head

    # Only Random.random is guaranteed to return the same values in every Python version.
    def _number(self, below: int) -> int:
        return int(self._random.random() * below)

    def _word(self, vocabulary: str) -> str:
        return self._pick(self._words[vocabulary])

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[self._number(len(choices))]
