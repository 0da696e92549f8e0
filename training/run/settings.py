"""Settings of a training run and their command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

DESCRIPTION = """\
Trains kimi-nano, or resumes from the last checkpoint in DIR. Writes everything a later run needs to DIR,
in files below 16 MiB. With --decay-steps the learning rate falls to zero at the end and the experts are
trained as int4, which is meant for the last run of a training.
"""

_ROW_LENGTHS = "128,256,384,512,768,1024"


@dataclass(frozen=True)
class RunSettings:
    """The settings described in the help of the command line; `minutes` 0 means no time limit."""

    directory: Path
    source: Path | None
    steps: int
    minutes: float
    decay_steps: int
    warmup_steps: int
    batch_tokens: int
    micro_tokens: int
    row_lengths: tuple[int, ...]
    pictures_from: int
    experts_from: int
    vision: Path | None
    muon_rate: float
    adam_rate: float
    device: str
    dtype: str
    compile: bool
    threads: int
    processes: int
    data_workers: int
    seed: int
    log_every: int
    save_every: int
    eval_every: int
    eval_cases: int


def read_settings(arguments: list[str] | None = None) -> RunSettings:
    """Reads the settings from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.run", description=DESCRIPTION)
    add = parser.add_argument
    add("--directory", "--dir", type=Path, required=True, metavar="DIR", help="the run's files")
    add(
        "--from",
        dest="source",
        type=Path,
        metavar="CHECKPOINT",
        help="start from an exported checkpoint and its tokenizer, with fresh optimisers",
    )
    add("--steps", type=int, required=True, help="total steps of the training, earlier runs included")
    add("--minutes", type=float, default=0.0, help="save and end after this time (default: no limit)")
    add("--decay-steps", type=int, default=0, help="number of last steps in which the learning rate falls")
    add("--warmup-steps", type=int, default=100)
    add("--batch-tokens", type=int, default=4096, help="tokens per step (default: 4096; for a GPU 65536)")
    add(
        "--micro-tokens",
        type=int,
        default=2048,
        help="tokens computed at once (default: 2048; for a GPU 65536)",
    )
    add("--row-lengths", type=_lengths, default=_lengths(_ROW_LENGTHS), help=f"default: {_ROW_LENGTHS}")
    add("--pictures-from", type=int, default=0, metavar="STEP", help="first step with pictures (default: 0)")
    add(
        "--experts-from",
        type=int,
        default=0,
        metavar="STEP",
        help="first step with routed experts (default: 0)",
    )
    add(
        "--vision",
        type=Path,
        metavar="FILE",
        help="load tower and projector from this file of training.reading; a run loads each file name once",
    )
    add("--muon-rate", type=float, default=0.02)
    add("--adam-rate", type=float, default=0.003)
    add("--device", default="cpu", help="cpu or cuda")
    add("--dtype", choices=("f32", "bf16"), default="f32", help="dtype of the matrix products")
    add("--compile", action="store_true", help="use torch.compile: a fifth faster, but starts minutes later")
    add("--threads", type=int, default=1, help="CPU threads per process")
    add("--processes", type=int, default=1, help="processes that share each batch, on a CPU")
    add("--data-workers", type=int, default=0, help="processes that make batches (default: none)")
    add("--seed", type=int, default=6)
    add("--log-every", type=int, default=10, metavar="STEPS")
    add("--save-every", type=int, default=100, metavar="STEPS")
    add("--eval-every", type=int, default=100, metavar="STEPS")
    add("--eval-cases", type=int, default=32, help="held-out cases per skill")
    given = parser.parse_args(arguments)
    if given.processes > 1 and given.device != "cpu":
        parser.error(f"--processes {given.processes} is for the CPU, not for {given.device}")
    return RunSettings(**vars(given))


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
