"""The command that creates the run's tokenizer and configuration if there are none, then trains."""

from __future__ import annotations

import shutil
import signal
from functools import partial
from pathlib import Path

from services.engine.weights.writer import write_json
from training.export.published import TOKENIZER_FILES
from training.nano.skill_tokenizer import write_skill_tokenizer
from training.nano.trained_architecture import trained_config
from training.nano.vocabulary import Vocabulary
from training.run.loop import Run, follow
from training.run.ranks import joined
from training.run.settings import read_settings


def prepare(directory: Path, source: Path | None) -> None:
    """Writes tokenizer files and config.json, copied from the checkpoint `source` if given; existing files
    stay.
    """
    if source is not None and not (directory / "config.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        for name in (*TOKENIZER_FILES, "config.json"):
            shutil.copy(source / name, directory)
    if not (directory / "tiktoken.model").exists():
        print("learning the tokenizer ...", flush=True)
        write_skill_tokenizer(directory)
    if not (directory / "config.json").exists():
        write_json(directory / "config.json", trained_config(Vocabulary.from_dir(directory)))


def main() -> None:
    """Runs the command line. After SIGINT or SIGTERM the run finishes the current step, saves and ends."""
    settings = read_settings()
    prepare(settings.directory, settings.source)
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: ended.append(received))
    with joined(settings.processes, partial(follow, settings)) as ranks:
        run = Run(settings, lambda line: print(line, flush=True), ranks)
        run.train(lambda: bool(ended))
    run.evaluate()


if __name__ == "__main__":
    main()
