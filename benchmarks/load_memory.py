"""Measures the memory that loading takes: a random int4 checkpoint at Kimi-K2.5's layer shapes, of about 2
GB.

python -m benchmarks.load_memory --config CONFIG_JSON [--directory DIR] [--tp N --rank R [--exchange]]

CONFIG_JSON is the published one; layers, experts, vocabulary and vision tower are reduced. Loading runs in
its own process; the peak is the most that its resident memory grew since all imports. With --tp it loads what
rank R of N would hold, int4 experts packed, instead of the whole model in bf16; with --exchange what it would
read if ranks exchange columns, as on GPUs, without the exchange itself. The files' pages are dropped from the
page cache first, so that reads come from the disk and are counted there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any

import torch

from services.cli.process_memory import peak_resident_bytes, resident_bytes
from services.common.model_types import read_config
from services.engine.loading.text import load_text_model, stream_text_share
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.rank import ALONE, Rank
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.expected import expected_tensors
from services.engine.weights.headers import DTYPE_BYTES
from services.engine.weights.random_checkpoint import with_int4, write_random_checkpoint
from services.engine.weights.share import shares_of
from services.engine.weights.stream import READERS
from services.engine.weights.verify import verify

LAYERS, EXPERTS, VOCABULARY = 2, 28, 2048
TOLERANCE = 0.10


def reduced(published: dict[str, Any]) -> dict[str, Any]:
    """The published configuration, reduced, with the full shapes of its layers."""
    few = {"num_hidden_layers": LAYERS, "n_routed_experts": EXPERTS, "vocab_size": VOCABULARY}
    tower = {"vt_num_hidden_layers": 1, "init_pos_emb_height": 8, "init_pos_emb_width": 8}
    return with_int4(
        published
        | {
            "text_config": published["text_config"] | few,
            "vision_config": published["vision_config"] | tower,
        }
    )


def planned_bytes(config: ModelConfig, rank: Rank | None) -> tuple[int, int]:
    """Bytes loaded of the text model, and bytes that readers hold beside it: that many of its
    largest tensor.
    """
    held = config if rank is not None else dataclasses.replace(config, quantization=None)
    tensors = expected_tensors(held)
    shares = shares_of(tensors, rank or ALONE)
    sizes = [
        shares[name].values * DTYPE_BYTES[tensor.dtype] if name in shares else tensor.nbytes
        for name, tensor in tensors.items()
        if tensor.is_text
    ]
    return sum(sizes), READERS * max(sizes)


def load(directory: Path, rank: Rank | None, *, exchanges: bool) -> None:
    """Loads in this process and prints the measurements as JSON."""
    before, read, started = resident_bytes(), disk_bytes(), time.monotonic()
    held: Sized
    if rank is None:
        held = load_text_model(directory, deterministic=False, dtype=torch.bfloat16).layers
    else:
        checkpoint = Checkpoint.checked(directory)
        with stream_text_share(checkpoint, rank, torch.bfloat16, exchanges=exchanges) as weights:
            held = list(weights.values())
    seconds = time.monotonic() - started
    peak, read = peak_resident_bytes() - before, disk_bytes() - read
    print(json.dumps({"parts": len(held), "peak": peak, "seconds": seconds, "read": read}))


def disk_bytes() -> int:
    """Bytes that the disks read for this process, including mapped files."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["read_bytes"])


def drop_from_page_cache(directory: Path) -> None:
    """Drops the shards from the page cache, once they are on the disk."""
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(config_path: Path, directory: Path, rank: Rank | None, *, exchanges: bool) -> int:
    """Writes, loads, compares; returns 1 if the peak exceeds the plan."""
    write_random_checkpoint(directory, reduced(read_config(config_path)))
    verdict = verify(directory)
    print(f"checkpoint    {verdict.nbytes / 1e9:8.3f} GB in {verdict.tensors} tensors")
    drop_from_page_cache(directory)
    command = [sys.executable, "-m", "benchmarks.load_memory", "--load", str(directory)]
    if rank is not None:
        command += ["--tp", str(rank.count), "--rank", str(rank.index)] + ["--exchange"] * exchanges
    seen = json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1])
    weights, ahead = planned_bytes(verdict.config, rank)
    what = "model in bf16" if rank is None else "rank's share "
    print(f"{what} {weights / 1e9:8.3f} GB")
    print(f"readers       {ahead / 1e9:8.3f} GB, {READERS} x the largest tensor")
    print(f"peak          {seen['peak'] / 1e9:8.3f} GB, {seen['peak'] / weights - 1:+.1%} of {what.strip()}")
    print(f"from the disk {seen['read'] / 1e9:8.3f} GB in {seen['seconds']:.1f} s")
    return 0 if seen["peak"] <= (1 + TOLERANCE) * weights else 1


def chosen_rank(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Rank | None:
    """The chosen rank; None for the whole model."""
    if (arguments.tp is None) != (arguments.rank is None):
        parser.error("--tp and --rank go together")
    return None if arguments.tp is None else Rank(arguments.rank, arguments.tp)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Measure the memory that loading takes.")
    parser.add_argument("--config", type=Path, help="the published config.json")
    parser.add_argument("--directory", type=Path, help="where there is room (default: a temporary one)")
    parser.add_argument("--tp", type=int, help="ranks that share the model")
    parser.add_argument("--rank", type=int, help="the one that loads, from 0")
    parser.add_argument("--exchange", action="store_true", help="the ranks exchange columns")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rank = chosen_rank(parser, arguments)
    if arguments.load is not None:
        load(arguments.load, rank, exchanges=arguments.exchange)
        return 0
    if arguments.config is None:
        parser.error("--config is required")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        return measure(arguments.config, Path(directory), rank, exchanges=arguments.exchange)


if __name__ == "__main__":
    sys.exit(main())
