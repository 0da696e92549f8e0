"""The command: makes the run's tokenizer and configuration where there are none, then trains."""

from __future__ import annotations

import signal
from pathlib import Path

from services.engine.weights.writer import write_json
from training.nano.skill_tokenizer import write_skill_tokenizer
from training.nano.trained_architecture import trained_config
from training.nano.vocabulary import Vocabulary
from training.run.loop import Run
from training.run.settings import read_settings


def prepare(directory: Path) -> None:
    """Tokenizer files and config.json; those that are there stay."""
    if not (directory / "tiktoken.model").exists():
        print("learning the tokenizer ...", flush=True)
        write_skill_tokenizer(directory)
    if not (directory / "config.json").exists():
        write_json(directory / "config.json", trained_config(Vocabulary.from_dir(directory)))


def main() -> None:
    """The command line. SIGINT and SIGTERM end the run after the step under way, saved."""
    settings = read_settings()
    prepare(settings.directory)
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: ended.append(received))
    run = Run(settings, lambda line: print(line, flush=True))
    run.train(lambda: bool(ended))
    run.evaluate()


if __name__ == "__main__":
    main()
