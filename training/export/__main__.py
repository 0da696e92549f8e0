"""The command that exports the last state of a run as checkpoints."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from services.common.model_types import read_config
from services.engine.model.architectures import load_config
from services.engine.weights.writer import write_json
from training.export.published import Publisher
from training.model.model import TrainedModel, published_weights
from training.run import checkpoint
from training.run.checkpoint import Progress


def load(run: Path) -> tuple[TrainedModel, Progress]:
    """Loads the model of the last saved state. SystemExit if there is none."""
    found = checkpoint.saved(run)
    if not found:
        raise SystemExit(f"{run} holds no state of a training")
    model = TrainedModel(load_config(run)).eval()
    wanted = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    return model, checkpoint.restore(found[-1], wanted, partly=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="directory of the run")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="bf16 checkpoint, replaced")
    parser.add_argument("--int4-out", type=Path, metavar="DIR", help="checkpoint with int4 experts, replaced")
    arguments = parser.parse_args()
    model, progress = load(arguments.run)
    values = read_config(arguments.run / "config.json")
    weights = published_weights(model.state_dict())
    publisher = Publisher(weights, values, arguments.run, as_int4=progress.int4_steps > 0)
    publisher.write(arguments.out, int4=False)
    write_json(arguments.out / checkpoint.TRAINING_FILE, asdict(progress))
    if arguments.int4_out:
        publisher.write(arguments.int4_out, int4=True)


if __name__ == "__main__":
    main()
