"""Writes the tokenizer of a trained kimi-nano: `python -m training.nano.skill_tokenizer --out DIR`.

The vocabulary is learnt on the training samples, and on the corpus for all other text. The written bytes are
always the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from services.families.kimi.chat.template import lay_out
from training.data.example import answer_segments
from training.nano.corpus import Corpus
from training.nano.merges import learn_copyable_ranks
from training.nano.tokenizer import write_files
from training.skills.curriculum import Curriculum

SEED = 20_250
NUM_SAMPLES = 8_000
NUM_CORPUS_DOCUMENTS = 3_000
NUM_RANKS = 1_280
NUM_SPACED = 256


def documents() -> Iterator[str]:
    """The texts between the special tokens of prompts and answers, then the corpus."""
    curriculum = Curriculum(SEED)
    for number in range(NUM_SAMPLES):
        sample = curriculum.sample(number)
        for segment in (*lay_out(sample.conversation), *answer_segments(sample)):
            if not segment.special:
                yield segment.text
    yield from Corpus(SEED, NUM_CORPUS_DOCUMENTS)


def write_skill_tokenizer(directory: Path) -> None:
    """Writes `tiktoken.model` and `tokenizer_config.json` into `directory`."""
    write_files(directory, learn_copyable_ranks(documents(), NUM_RANKS, NUM_SPACED))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to write to")
    write_skill_tokenizer(parser.parse_args().out)


if __name__ == "__main__":
    main()
