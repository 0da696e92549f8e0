"""Writes the checkpoint of random weights for tests into a directory that already holds the tokenizer.

python -m training.nano.random_checkpoint --out tests/data/kimi-nano
"""

from __future__ import annotations

import argparse
from pathlib import Path

from services.engine.model.architectures import parse_config
from services.engine.weights.expected import expected_tensors
from services.engine.weights.writer import write_json, write_shards
from training.nano.architecture import generation_config, model_config, preprocessor_config
from training.nano.random_weights import nano_tensor
from training.nano.shards import small_shards
from training.nano.vocabulary import Vocabulary

SEED = 20
MAX_SHARD_BYTES = 3_000_000


def write_checkpoint(directory: Path, seed: int = SEED) -> None:
    """Writes every file except the tokenizer's; the bytes are the same for the same tokenizer and seed."""
    vocabulary = Vocabulary.from_dir(directory)
    config = model_config(vocabulary)
    for stale in directory.glob("model-*.safetensors"):
        stale.unlink()
    write_json(directory / "config.json", config)
    write_json(directory / "generation_config.json", generation_config(vocabulary))
    write_json(directory / "preprocessor_config.json", preprocessor_config())
    tensors = expected_tensors(parse_config(config))
    ranks = vocabulary.ranks
    write_shards(
        directory,
        small_shards(tensors, MAX_SHARD_BYTES),
        lambda name: nano_tensor(name, tensors[name], ranks, seed),
        digits=5,
    )


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Write kimi-nano with random weights.")
    parser.add_argument("--out", type=Path, required=True, help="directory that holds the tokenizer's files")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    write_checkpoint(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
