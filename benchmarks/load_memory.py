"""How much memory loading takes: a random int4 checkpoint at Kimi-K2.5's layer shapes, of about 2 GB.

python -m benchmarks.load_memory --config CONFIG_JSON [--directory DIR]

CONFIG_JSON is the published one; layers, experts, vocabulary and vision tower are cut down. Loading runs in a
process of its own; the peak is what its resident memory grew to at most since everything was imported.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from services.engine.model.config import ModelConfig, read_config
from services.engine.weights.names import text_tensors
from services.engine.weights.random_checkpoint import with_int4, write_random_checkpoint
from services.engine.weights.stream import READERS
from services.engine.weights.text import load_text_model
from services.engine.weights.verify import verify

LAYERS, EXPERTS, VOCABULARY = 2, 28, 2048
TOLERANCE = 0.10


def reduced(published: dict[str, Any]) -> dict[str, Any]:
    """The published configuration with the full shapes of its layers."""
    few = {"num_hidden_layers": LAYERS, "n_routed_experts": EXPERTS, "vocab_size": VOCABULARY}
    tower = {"vt_num_hidden_layers": 1, "init_pos_emb_height": 8, "init_pos_emb_width": 8}
    return with_int4(
        published
        | {
            "text_config": published["text_config"] | few,
            "vision_config": published["vision_config"] | tower,
        }
    )


def planned_bytes(config: ModelConfig, dtype: torch.dtype) -> tuple[int, int]:
    """The text model in `dtype`, and what the readers hold beside it: as many of its largest tensor."""
    sizes = [math.prod(shape) * dtype.itemsize for shape in text_tensors(config.text).values()]
    return sum(sizes), READERS * max(sizes)


def load(directory: Path) -> None:
    """Prints what loading in this process did, as JSON."""
    before, started = _status("VmRSS"), time.monotonic()
    model = load_text_model(directory, deterministic=False, dtype=torch.bfloat16)
    seconds = time.monotonic() - started
    peak = _status("VmHWM") - before
    print(json.dumps({"layers": len(model.layers), "before": before, "peak": peak, "seconds": seconds}))


def _status(key: str) -> int:
    """Bytes, of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {key}")


def measure(config_path: Path, directory: Path) -> int:
    """Writes, loads, compares; 1 where the peak is beyond the plan."""
    write_random_checkpoint(directory, reduced(read_config(config_path)))
    verdict = verify(directory)
    print(f"checkpoint    {verdict.nbytes / 1e9:8.3f} GB in {verdict.tensors} tensors")
    command = [sys.executable, "-m", "benchmarks.load_memory", "--load", str(directory)]
    seen = json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1])
    weights, ahead = planned_bytes(verdict.config, torch.bfloat16)
    print(f"model in bf16 {weights / 1e9:8.3f} GB")
    print(f"readers       {ahead / 1e9:8.3f} GB, {READERS} x the largest tensor")
    print(f"peak          {seen['peak'] / 1e9:8.3f} GB, {seen['peak'] / weights - 1:+.1%} of the model alone")
    print(f"time          {seen['seconds']:8.1f} s")
    return 0 if seen["peak"] <= (1 + TOLERANCE) * weights else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the memory that loading takes.")
    parser.add_argument("--config", type=Path, help="the published config.json")
    parser.add_argument("--directory", type=Path, help="where there is room (default: a temporary one)")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load is not None:
        load(arguments.load)
        return 0
    if arguments.config is None:
        parser.error("--config is required")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        return measure(arguments.config, Path(directory))


if __name__ == "__main__":
    sys.exit(main())
