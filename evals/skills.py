"""Accuracy per skill of a running suite: `python -m evals.skills`, while the suite of `make run` runs."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.endpoint import Endpoint, Failed, at_once, first_model
from evals.interval import wilson
from evals.progress import ProgressBar
from evals.request import answer_of, chat_body
from evals.rows import ROWS, Row
from training.skills.curriculum import Curriculum
from training.skills.sample import Sample

SEED = 6


@dataclass(frozen=True)
class Verdict:
    """The verdict on one case. `error` gives the reason why there was no answer, which counts as wrong."""

    right: bool
    error: str = ""


@dataclass(frozen=True)
class Plan:
    """The `rows` to run, the number of `cases` of each, and `concurrency`, the requests at once."""

    rows: tuple[Row, ...]
    cases: int
    concurrency: int
    max_tokens: int
    seed: int


async def run(endpoint: Endpoint, model: str, plan: Plan, bar: ProgressBar) -> dict[str, Any]:
    """Runs the plan and returns the result as written to the file."""
    curriculum = Curriculum(plan.seed)
    work = [(row, case) for row in plan.rows for case in row.cases(curriculum, plan.cases)]

    async def judge(item: tuple[Row, Sample]) -> Verdict:
        verdict = await _judge(endpoint, model, plan.max_tokens, item[1])
        bar.add(verdict.right)
        return verdict

    began = time.monotonic()
    verdicts = await at_once(work, plan.concurrency, judge)
    by_row = {
        row.name: [verdict for (of, _), verdict in zip(work, verdicts, strict=True) if of is row]
        for row in plan.rows
    }
    return {
        "model": model,
        "seed": plan.seed,
        "seconds": round(time.monotonic() - began, 1),
        "rows": {row.name: _summary(row, by_row[row.name]) for row in plan.rows},
    }


def table(result: dict[str, Any]) -> str:
    """The result as a table of text."""
    lines = [f"{'':24} {'right':>9}  {'95 % interval':>15}  target"]
    for name, row in result["rows"].items():
        low, high = row["interval"]
        right = f"{row['right']}/{row['cases']}"
        lines.append(f"{name:24} {right:>9}  {low:7.1%} {high:7.1%}  {row['target']:.0%}")
        lines += [f"    {error}" for error in row["errors"]]
    return "\n".join(lines)


async def _judge(endpoint: Endpoint, model: str, max_tokens: int, case: Sample) -> Verdict:
    try:
        response = await endpoint.post(
            "/v1/chat/completions", chat_body(case.conversation, model, max_tokens)
        )
    except Failed as error:
        return Verdict(False, str(error))
    try:
        content, calls = answer_of(response)
    except ValueError:
        # Arguments that cannot be parsed are the model's mistake.
        return Verdict(False)
    return Verdict(case.expect.met_by(content, calls))


def _summary(row: Row, verdicts: list[Verdict]) -> dict[str, Any]:
    right = sum(verdict.right for verdict in verdicts)
    errors = [verdict.error for verdict in verdicts if verdict.error]
    return {
        "cases": len(verdicts),
        "right": right,
        "accuracy": right / len(verdicts),
        "interval": wilson(right, len(verdicts)),
        "target": row.target,
        "failed": len(errors),
        "errors": sorted(set(errors))[:3],
    }


async def _main(arguments: argparse.Namespace) -> int:
    rows = tuple(row for row in ROWS if not arguments.row or row.name in arguments.row)
    plan = Plan(rows, arguments.cases, arguments.concurrency, arguments.max_tokens, arguments.seed)
    endpoint = Endpoint(arguments.url)
    try:
        model = arguments.model or await first_model(endpoint)
        result = await run(endpoint, model, plan, ProgressBar(len(rows) * plan.cases, sys.stderr))
    except Failed as error:
        print(f"evals: {arguments.url} {error}", file=sys.stderr)
        return 1
    finally:
        await endpoint.close()
    print(table(result))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if any(row["failed"] for row in result["rows"].values()) else 0


def main() -> None:
    """Runs the command line. The exit status is 1 if requests failed."""
    parser = argparse.ArgumentParser(prog="python -m evals.skills", description=__doc__)
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:30000", help="URL of the gateway (default: that of make run)")
    add("--model", default="", help="model id (default: the first that the server lists)")
    add("--cases", type=int, default=300, help="cases per row (default: 300)")
    add("--concurrency", type=int, default=16, help="requests at once (default: 16)")
    add("--max-tokens", type=int, default=400)
    add("--seed", type=int, default=SEED, help="seed of the cases")
    add("--row", action="append", choices=[row.name for row in ROWS], help="only this row; may be repeated")
    add("--out", type=Path, metavar="FILE", help="write the result to FILE as JSON")
    sys.exit(asyncio.run(_main(parser.parse_args())))


if __name__ == "__main__":
    main()
