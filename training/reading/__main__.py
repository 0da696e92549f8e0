"""The command that trains tower and projector to read, and writes their weights to one file."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from services.engine.model.architectures import load_config
from services.families.kimi.media import MERGE_SIZE
from services.families.kimi.tokenizer import KimiTokenizer
from training.data.picture import read_picture
from training.model.model import TrainedModel
from training.reading.cells import letters_of_cells, tokens_of_cells
from training.reading.reader import Likeness, Page, Reader, ReadingTrainer
from training.run import checkpoint
from training.run.schedule import Schedule
from training.run.trainer import Rates
from training.skills.dice import Dice
from training.skills.documents import Printer
from training.skills.drawing import Print
from training.skills.lexicon import Lexicon
from training.skills.split import Split

HELD_OUT_PAGES = 32
RECEIPT_SHARE = 0.7


def pages(seed: int, split: Split, tokenizer: KimiTokenizer) -> Iterator[Page]:
    """An endless sequence of receipts and labels, the same for the same seed."""
    printer = Printer(Lexicon())
    for number in itertools.count():
        dice = Dice(seed, "page", split.value, number)
        paper = printer.receipt(dice, split) if dice.chance(RECEIPT_SHARE) else printer.label(dice, split)
        yield page_of(paper.printed, tokenizer)


def page_of(printed: Print, tokenizer: KimiTokenizer) -> Page:
    """A page with the letters and tokens written in each cell as targets."""
    picture = read_picture(printed.picture)
    rows, columns = picture.rows // MERGE_SIZE, picture.columns // MERGE_SIZE
    letters = letters_of_cells(printed.letters, rows, columns)
    return Page(picture, letters, tokens_of_cells(printed.words, rows, columns, tokenizer))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.reading", description=__doc__)
    add = parser.add_argument
    add(
        "--directory",
        "--dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="directory of a run that can copy texts",
    )
    add("--out", type=Path, required=True, metavar="FILE", help="safetensors, for training.run --vision")
    add("--vision", type=Path, metavar="FILE", help="start from the output of an earlier call")
    add("--steps", type=int, default=2000)
    add("--pages", type=int, default=16, help="pages per step")
    add("--muon-rate", type=float, default=0.02)
    add("--adam-rate", type=float, default=0.003)
    add("--device", default="cpu", help="cpu or cuda")
    add("--threads", type=int, default=1)
    add("--log-every", type=int, default=100, metavar="STEPS")
    add("--seed", type=int, default=6)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = TrainedModel(load_config(given.directory), given.seed)
    state = model.state_dict()
    saved = checkpoint.saved(given.directory)[-1]
    checkpoint.restore(saved, {f"model.{name}": value for name, value in state.items()}, partly=True)
    if given.vision is not None:
        checkpoint.take_vision(given.vision, model)
    tokenizer = KimiTokenizer.from_dir(given.directory)
    embedding = model.language_model.model.embed_tokens.weight.detach().to(given.device)
    likeness = Likeness(embedding, tokenizer.special.media_pad)
    reader = Reader(model).to(given.device)
    trainer = ReadingTrainer(reader, likeness, Rates(given.muon_rate, given.adam_rate))
    held_out = list(itertools.islice(pages(given.seed, Split.HELD_OUT, tokenizer), HELD_OUT_PAGES))
    stream = pages(given.seed, Split.TRAIN, tokenizer)
    schedule = Schedule(given.steps, given.steps // 20, given.steps // 3)
    began, losses = time.monotonic(), []
    for step in range(given.steps):
        batch = list(itertools.islice(stream, given.pages))
        losses.append(trainer.step(batch, step + 1, schedule.factor(step)))
        if (step + 1) % given.log_every == 0 or step + 1 == given.steps:
            found, loss = trainer.progress(held_out), sum(losses) / len(losses)
            read = f"{found.letters:.1%} of cells and {found.tokens:.1%} of tokens read"
            print(f"step {step + 1}: loss {loss:.4f}, {read}, {time.monotonic() - began:.0f} s", flush=True)
            losses = []
    names = ("vision_tower.", "mm_projector.")
    weights = {name: value for name, value in model.state_dict().items() if name.startswith(names)}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous().cpu() for name, value in weights.items()}, given.out)


if __name__ == "__main__":
    main()
