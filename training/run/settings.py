"""What a run of the trainer is told."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

DESCRIPTION = """\
Trains kimi-nano, or goes on from the last checkpoint in DIR. Everything a later run needs is written there,
in files below 16 MiB. With --decay-steps the learning rate falls to nothing at the end and the experts are
trained as int4: that is the last stretch of a training.
"""

_ROW_LENGTHS = "128,256,384,512,768,1024"


@dataclass(frozen=True)
class RunSettings:
    """See the help of the command line; `minutes` 0: no limit of time."""

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
        help="begin with an exported checkpoint and its tokenizer; the optimisers begin anew",
    )
    add("--steps", type=int, required=True, help="of the whole training, earlier runs included")
    add("--minutes", type=float, default=0.0, help="save and end after so long (default: no limit)")
    add("--decay-steps", type=int, default=0, help="the last steps, in which the learning rate falls")
    add("--warmup-steps", type=int, default=100)
    add("--batch-tokens", type=int, default=4096, help="in a step (default: 4096; for a GPU 65536)")
    add("--micro-tokens", type=int, default=2048, help="computed at once (default: 2048; for a GPU 65536)")
    add("--row-lengths", type=_lengths, default=_lengths(_ROW_LENGTHS), help=f"default: {_ROW_LENGTHS}")
    add("--pictures-from", type=int, default=0, metavar="STEP", help="text alone before it (default: 0)")
    add("--experts-from", type=int, default=0, metavar="STEP", help="none are routed before it (default: 0)")
    add(
        "--vision",
        type=Path,
        metavar="FILE",
        help="begin with this tower and projector, of training.reading; once for each name of a file",
    )
    add("--muon-rate", type=float, default=0.02)
    add("--adam-rate", type=float, default=0.003)
    add("--device", default="cpu", help="cpu or cuda")
    add("--dtype", choices=("f32", "bf16"), default="f32", help="of the products")
    add("--compile", action="store_true", help="with torch.compile: a fifth faster, minutes later")
    add("--threads", type=int, default=1, help="of the CPU, for each process")
    add("--processes", type=int, default=1, help="that share each batch, on a CPU")
    add("--data-workers", type=int, default=0, help="processes that make batches (default: none)")
    add("--seed", type=int, default=6)
    add("--log-every", type=int, default=10, metavar="STEPS")
    add("--save-every", type=int, default=100, metavar="STEPS")
    add("--eval-every", type=int, default=100, metavar="STEPS")
    add("--eval-cases", type=int, default=32, help="of each skill")
    given = parser.parse_args(arguments)
    if given.processes > 1 and given.device != "cpu":
        parser.error(f"--processes {given.processes} is for the CPU, not for {given.device}")
    return RunSettings(**vars(given))


def _lengths(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
