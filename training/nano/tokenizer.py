"""Writes the tokenizer files of tests/data/kimi-nano, always with the same bytes: `python -m
training.nano.tokenizer`
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Sequence
from pathlib import Path

from training.nano.bpe import learn_ranks
from training.nano.corpus import Corpus
from training.nano.special_slots import tokenizer_config

SEED = 20_250
NUM_DOCUMENTS = 9_000
NUM_RANKS = 2_048
DIRECTORY = Path(__file__).resolve().parents[2] / "tests" / "data" / "kimi-nano"


def write_tokenizer(directory: Path) -> None:
    """Writes `tiktoken.model` and `tokenizer_config.json` into `directory`, in the published formats."""
    write_files(directory, learn_ranks(Corpus(SEED, NUM_DOCUMENTS), NUM_RANKS))


def write_files(directory: Path, tokens: Sequence[bytes]) -> None:
    """Writes the two files for tokens in the order of their ranks."""
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tiktoken.model").write_text("".join(lines), encoding="ascii", newline="\n")
    config = json.dumps(tokenizer_config(len(tokens)), indent=2)
    (directory / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DIRECTORY, help="directory to write to")
    write_tokenizer(parser.parse_args().out)


if __name__ == "__main__":
    main()
