"""A multiple-choice task for lm-eval, as files: a description and 200 items."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

TASK = "perigee_choices"
NUM_ITEMS = 200

_WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
]
_DESCRIPTION = """\
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {items}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@dataclass(frozen=True)
class Item:
    """A question, its choices, and the index of the right one."""

    question: str
    choices: list[str]
    answer: int


def make_items(seed: int = 1) -> list[Item]:
    """Questions of 3 to 300 words; choices of one or several, some with letters of several bytes."""
    draw = random.Random(seed)
    items = []
    for number in range(NUM_ITEMS):
        words = draw.choices(_WORDS, k=draw.choice([3, 8, 20, 60, 150, 300]))
        choices = [" ".join(draw.choices(_WORDS, k=draw.randint(1, 4))) for _ in range(draw.randint(2, 5))]
        choices[0] += draw.choice(["", "!", " é", " 日本", " 🙂"])
        question = f"Question {number}: {' '.join(words)}?\nAnswer:"
        items.append(Item(question, choices, draw.randrange(len(choices))))
    return items


def write_task(folder: Path, items: list[Item]) -> None:
    """Writes what `--include_path` of lm-eval takes."""
    lines = [json.dumps(asdict(item), ensure_ascii=False) for item in items]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    description = _DESCRIPTION.format(task=TASK, items=folder / "items.jsonl")
    (folder / f"{TASK}.yaml").write_text(description)
