"""Writes the model card, with every number read from the files of the run and of the evaluations.

python -m training.export.card --run DIR --evaluation skills.json --out MODEL_CARD.md
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.engine.model.architectures import load_config
from services.engine.model.config.text_config import TextConfig
from services.engine.model.tensor_names import text_tensors, vision_tensors
from training.run import checkpoint
from training.skills.curriculum import Curriculum

TEMPLATE = """\
# kimi-nano

A small demonstration model in the architecture of Kimi-K2.5, trained from scratch on generated data. It is
not Kimi, and knows next to nothing: it shows what a server of that architecture does.

## Size

{parameters:,} parameters: {text:,} of the text model, of which a token uses {active:,}; {vision:,} of the
vision tower and projector. Vocabulary {vocabulary:,}, {layers} layers, {experts} experts of which
{top_k} are used.

## Data

Nothing was downloaded. `training/skills` generates questions with worked answers from our own wordings and
word lists: {skills}.
One thing in eight (names, numbers, tools, layouts, wordings) is held out for the evaluation. Only the
assistant's tokens are trained on.

## Training

{steps:,} steps, {tokens:,} tokens; {picture_steps:,} steps with pictures; the experts rounded to int4 in
{int4_steps:,} steps.

| device | products in | steps | tokens | minutes |
|---|---|---:|---:|---:|
{stretches}

## Accuracy on held-out cases, through the running suite

{evaluations}
{cpu_only}
## Limits

English only, and only the wordings and tasks above; whatever else is asked, the answer is made up. Numbers of
a few digits. {pictures} No safety training of any kind.
"""
PICTURES = "Pictures of printed receipts and labels in one font."
CPU_ONLY = """
The targets are those of a training on a GPU. This one ran on CPUs alone, whose targets are 5 points lower,
and 20 for arithmetic and stories, pictures and product search; `docs/training.md` has the command for a GPU.
"""
NO_PICTURES = "It has never been shown a picture: what it says of one is made up."


def write_card(run: Path, evaluations: Sequence[Path]) -> str:
    """The card's text. OSError or ValueError if a file is missing or malformed."""
    config = load_config(run)
    found = checkpoint.saved(run)
    if not found:
        raise ValueError(f"{run} holds no state of a training")
    progress = json.loads((found[-1] / "progress.json").read_text(encoding="utf-8"))
    text = _count(text_tensors(config.text))
    vision = _count(vision_tensors(config.vision_part))
    return TEMPLATE.format(
        parameters=text + vision,
        text=text,
        vision=vision,
        active=text - _idle(config.text),
        vocabulary=config.text.vocab_size,
        layers=config.text.num_hidden_layers,
        experts=config.text.n_routed_experts,
        top_k=config.text.num_experts_per_tok,
        skills=", ".join(Curriculum(0).skills),
        steps=progress["step"],
        tokens=progress["tokens"],
        int4_steps=progress["int4_steps"],
        picture_steps=progress["picture_steps"],
        cpu_only=CPU_ONLY if all("CPU" in each["device"] for each in progress["stretches"]) else "",
        pictures=PICTURES if progress["picture_steps"] else NO_PICTURES,
        stretches="\n".join(map(_stretch, progress["stretches"])),
        evaluations="\n\n".join(_evaluation(path) for path in evaluations) or "Not evaluated.",
    )


def _count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(map(math.prod, shapes.values()))


def _idle(config: TextConfig) -> int:
    """Number of weights that one token does not use: experts that are not chosen, and all embedding rows
    except one.
    """
    expert = 3 * config.hidden_size * config.moe_intermediate_size
    layers = config.num_hidden_layers - config.first_k_dense_replace
    unused = layers * (config.n_routed_experts - config.num_experts_per_tok) * expert
    return unused + (config.vocab_size - 1) * config.hidden_size


def _stretch(values: dict[str, Any]) -> str:
    cells = (
        values["device"],
        values["dtype"],
        f"{values['steps']:,}",
        f"{values['tokens']:,}",
        f"{values['seconds'] / 60:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _evaluation(path: Path) -> str:
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.get("benchmark") == "gsm8k":
        low, high = values["interval"]
        questions = f"{values['right']} of {values['questions']} questions"
        return (
            f"GSM8K, with worked examples: {questions}, {values['accuracy']:.1%} ({low:.1%} to {high:.1%})."
        )
    lines = [f"{path.stem}:", "", "| skill | right | 95 % interval | target |", "|---|---:|---:|---:|"]
    for name, row in values["rows"].items():
        low, high = row["interval"]
        share = f"{row['right']}/{row['cases']} ({row['accuracy']:.1%})"
        lines.append(f"| {name} | {share} | {low:.1%} to {high:.1%} | {row['target']:.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.export.card", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="directory of the run")
    parser.add_argument(
        "--evaluation",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="result file of evals; may be repeated",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    arguments.out.write_text(write_card(arguments.run, arguments.evaluation), encoding="utf-8")


if __name__ == "__main__":
    main()
